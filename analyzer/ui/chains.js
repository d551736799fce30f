// The calling-context tree of one entry as an icicle: one row per hop, width = time spent below, or equal parts.

import { paths } from "./api.js";
import { h, replace } from "./dom.js";
import { compact, duration, percent, number } from "./format.js";
import { blockedLevel } from "./marks.js";

const AGAIN_AFTER_MS = 2_000;
const NARROWEST = 3;
// Left of the frames the numbers of the hops; padding on both sides.
const MARGINS = 40 + 32;
const DEEPEST = 64;
const MOST_FRAMES = 1_500;
const nameOf = (entry) => `${entry.service} ${entry.endpoint}`;

export class Chains {
  constructor(container, actions, tip, redraw) {
    Object.assign(this, { actions, tip, redraw, tree: null, shownFor: null, shownWindow: null, problem: null, fetching: false, fetchedAt: -Infinity });
    this.bar = h("div", { class: "chain-bar" });
    this.plot = h("div", { class: "icicle", role: "tree", "aria-label": "Calls below the entry" });
    container.append(this.bar, this.plot);
    new ResizeObserver(() => this.tree && this.redraw()).observe(this.plot);
  }

  draw(doc, view, selection) {
    const entry = this.choose(doc, view, selection);
    if (entry) this.fetch(entry, view.window);
    this.drawBar(doc, view, entry);
    this.drawPlot(view, selection, entry);
  }

  // The entry of a selected finding, the chosen one, or the deepest.
  choose(doc, view, selection) {
    const entries = [...(doc.entries ?? [])].sort((a, b) => (b.depth?.p95 ?? 0) - (a.depth?.p95 ?? 0) || (b.requests ?? 0) - (a.requests ?? 0));
    const named = entries.find((e) => nameOf(e) === view.entry);
    const start = selection?.kind === "finding" ? selection.record.path?.[0] : null;
    return named ?? (start && entries.find((e) => e.service === start.service && e.endpoint === start.endpoint)) ?? entries[0] ?? null;
  }

  async fetch(entry, window) {
    const name = nameOf(entry);
    const due = performance.now() - this.fetchedAt > AGAIN_AFTER_MS || this.shownFor !== name || this.shownWindow !== window;
    if (this.fetching || !due) return;
    this.fetching = true;
    this.fetchedAt = performance.now();
    try {
      const answer = await paths(entry, window);
      this.tree = grow(answer.paths ?? [], entry);
      this.truncated = Boolean(answer.truncated);
      this.problem = null;
    } catch (error) {
      this.problem = error.message;
      if (this.shownFor !== name) this.tree = null;
    }
    this.shownFor = name;
    this.shownWindow = window;
    this.fetching = false;
    this.redraw();
  }

  // The record of a path with the way to it, for the details.
  find(id) {
    const frame = this.tree?.byId.get(id);
    if (!frame) return null;
    const trail = [];
    for (let at = frame; at && trail.length < DEEPEST; at = at.above) trail.unshift(at.path);
    return { ...frame.path, trail };
  }

  drawBar(doc, view, entry) {
    const options = [...(doc.entries ?? [])].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
    const by = (value, text, title) => h("button", { type: "button", "aria-pressed": view.by === value, "data-key": `by ${value}`, title, onclick: () => this.actions.look({ by: value }) }, text);
    // A list that is open under the reader's hand must not be replaced.
    if (this.bar.querySelector("select") === document.activeElement && this.barFor === `${options.length} ${view.by}`) return;
    this.barFor = `${options.length} ${view.by}`;
    replace(this.bar,
      h("label", null, h("span", { class: "dim" }, "Entry "),
        h("select", { "data-key": "entry", onchange: (e) => this.actions.look({ entry: e.target.value, path: null }) },
          options.map((e) => h("option", { value: nameOf(e), selected: entry && nameOf(e) === nameOf(entry) }, `${nameOf(e)}  (depth ${number(e.depth?.p95)})`)))),
      h("div", { class: "switch", role: "group", "aria-label": "Width" }, by("time", "Time", "Width = time spent there"), by("calls", "Even", "Width = equal parts, so that every call can be read")));
  }

  drawPlot(view, selection, entry) {
    const same = entry && this.shownFor === nameOf(entry);
    if (!entry || !same || !this.tree?.roots.length) {
      const text = !entry ? "No entry has been seen yet." : !same ? "Loading…" : (this.problem ?? "No calls below this entry have been linked yet.");
      replace(this.plot, h("p", { class: "quiet" }, text));
      return;
    }
    const width = this.plot.clientWidth - MARGINS;
    const frames = [];
    let left = 0;
    const total = sum(this.tree.roots, (root) => weight(root, view.by)) || 1;
    for (const root of this.tree.roots) {
      const own = (width * weight(root, view.by)) / total;
      place(root, left, own, 0, view.by, frames);
      left += own;
    }
    const rows = Math.max(0, ...frames.map((f) => f.row)) + 1;
    const onPath = selection?.kind === "finding" ? (selection.record.path ?? []).map((step) => nameOf(step)) : [];
    const space = h("div", { class: "space" }, Array.from({ length: rows }, (_, row) => at(h("span", { class: `hop-number${row >= 4 ? " deep" : ""}`, title: `${row} hops from the entry` }, row === 0 ? "in" : String(row)), 0, row, 32)),
      frames.map((f) => this.frame(f, view, marks(f.frame, onPath))));
    space.style.height = `${rows * 48}px`;
    replace(this.plot, space,
      h("p", { class: "dim foot" }, view.by === "time" ? "Width: time spent in the call, inside its caller's. " : "Width: equal parts. ", "Colour: the share of its time that it waits for others. ", this.truncated ? "Only the heaviest paths are shown." : ""));
  }

  frame({ frame, left, width, row }, view, marked) {
    const p = frame.path;
    const lines = [nameOf(p), `${compact(p.handlings)} handlings · ${number(p.share)} per request`, `p50 ${duration(p.duration?.p50)} · p95 ${duration(p.duration?.p95)}`, `waits for others ${percent(p.blocked_share)} of its time`, `linked: ${p.evidence ?? "–"}`];
    const element = h("button", {
      class: `frame b${blockedLevel(p.blocked_share)}${view.path === p.id ? " chosen" : ""}${marked ? " marked" : ""}${p.evidence === "exact" ? "" : " loose"}`, type: "button", role: "treeitem", "aria-level": row + 1, "aria-selected": view.path === p.id,
      "aria-label": lines.slice(0, 3).join(", "), "data-key": `path ${p.id}`, onclick: () => this.actions.select(view.path === p.id ? {} : { path: p.id }, { entry: this.shownFor }),
      onpointerenter: (e) => this.tip.show(lines, e), onpointermove: (e) => this.tip.move(e), onpointerleave: () => this.tip.hide(),
    }, width > 36 ? [h("span", { class: "frame-name" }, p.service), h("span", { class: "frame-endpoint" }, p.share > 1.05 ? `×${number(p.share)} ` : "", p.endpoint)] : null);
    return at(element, left + 40, row, Math.max(1, width - 2));
  }
}

// Links the list of paths to trees below the entry. A parent that is missing, or a loop, only makes a branch shorter.
function grow(list, entry) {
  const byId = new Map();
  for (const path of list) byId.set(path.id, { path, below: [], above: null });
  const roots = [];
  for (const frame of byId.values()) {
    const above = frame.path.parent == null ? null : byId.get(frame.path.parent);
    if (above && above !== frame) {
      frame.above = above;
      above.below.push(frame);
    } else if (frame.path.service === entry.service && frame.path.endpoint === entry.endpoint) {
      roots.push(frame);
    }
  }
  const spent = (frame) => (frame.path.handlings ?? 0) * (frame.path.duration?.mean ?? 0);
  const measure = (frame, depth) => {
    frame.time = spent(frame);
    frame.below.sort((a, b) => spent(b) - spent(a) || (nameOf(a.path) < nameOf(b.path) ? -1 : 1));
    frame.leaves = depth >= DEEPEST || !frame.below.length ? 1 : sum(frame.below, (child) => measure(child, depth + 1));
    return frame.leaves;
  };
  for (const root of roots) measure(root, 0);
  return { byId, roots };
}

const weight = (frame, by) => (by === "time" ? frame.time : frame.leaves);

// Children share their caller's width; calls in parallel, which add up to more than it, are squeezed into it.
function place(frame, left, width, row, by, frames) {
  if (frames.length >= MOST_FRAMES || row > DEEPEST || width < NARROWEST) return;
  frames.push({ frame, left, width, row });
  const inner = sum(frame.below, (child) => weight(child, by));
  const whole = Math.max(inner, weight(frame, by)) || 1;
  let x = left;
  for (const child of frame.below) {
    const own = (width * weight(child, by)) / whole;
    place(child, x, own, row + 1, by, frames);
    x += own;
  }
}

// Whether a frame and all above it are the first steps of the finding's path.
function marks(frame, steps) {
  const names = [];
  for (let at = frame; at && names.length <= DEEPEST; at = at.above) names.unshift(nameOf(at.path));
  return names.length <= steps.length && names.every((name, i) => name === steps[i]);
}

function at(element, left, row, width) {
  element.style.left = `${left}px`;
  element.style.top = `${row * 48}px`;
  element.style.width = `${width}px`;
  return element;
}

const sum = (list, value) => list.reduce((total, item) => total + value(item), 0);
