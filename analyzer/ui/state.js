// What the page shows: the snapshot it holds, and the view, which lives in the URL's hash.

import { WINDOWS } from "./api.js";
import { allEdges } from "./opaque.js";

// The view with nothing chosen. Every field is text, a boolean or null; `at` is "x,y,scale" in graph coordinates, null = fit.
const BLANK = { tab: "graph", finding: null, service: null, from: null, to: null, path: null, entry: null, window: null, q: "", all: false, notes: false, by: "time", at: null };

const SELECTION = ["finding", "service", "from", "to", "path"];

// Reads "#finding=SC-3fa9c1&tab=chains"; what is unknown is left out.
export function parseHash(hash) {
  const view = { ...BLANK };
  for (const [key, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (!(key in BLANK)) continue;
    view[key] = typeof BLANK[key] === "boolean" ? value === "1" : value.slice(0, 500);
  }
  if (view.tab !== "chains") view.tab = "graph";
  if (view.by !== "calls") view.by = "time";
  if (!WINDOWS.some(([name]) => name === view.window)) view.window = null;
  return view;
}

export function formatHash(view) {
  const out = new URLSearchParams();
  for (const [key, blank] of Object.entries(BLANK)) {
    if (view[key] !== blank && view[key] != null) out.set(key, view[key] === true ? "1" : view[key]);
  }
  const text = out.toString();
  return text ? `#${text}` : "";
}

// One store: `view` from the hash, `doc` and `status` from the analyzer, `link` = how the page hears from it.
export class State {
  constructor(onChange) {
    this.onChange = onChange;
    this.view = parseHash(location.hash);
    this.doc = null;
    this.status = null;
    this.link = "connecting";
    this.staleSince = null;
    addEventListener("popstate", () => {
      this.view = parseHash(location.hash);
      this.onChange();
    });
  }

  // Changes the view. A new selection or tab is a step that "back" undoes; all else replaces.
  look(patch) {
    const step = ["tab", ...SELECTION].some((key) => key in patch && patch[key] !== this.view[key]);
    this.view = { ...this.view, ...patch };
    const url = location.pathname + location.search + formatHash(this.view);
    if (step) history.pushState(null, "", url);
    else history.replaceState(null, "", url);
    this.onChange();
  }

  // Selects one thing, e.g. {finding: id}, {service: name}, {from, to}; {} selects nothing.
  select(what, more = {}) {
    this.look({ ...Object.fromEntries(SELECTION.map((key) => [key, null])), ...what, ...more });
  }

  hear(patch) {
    Object.assign(this, patch);
    this.onChange();
  }
}

const RANK = { critical: 0, warn: 1, info: 2 };

// Findings, worst first; within a severity the ones that concern more requests.
export function byWeight(findings) {
  return [...(findings ?? [])].sort(
    (a, b) => (RANK[a.severity] ?? 3) - (RANK[b.severity] ?? 3) || (b.evidence?.n ?? 0) - (a.evidence?.n ?? 0) || (a.id < b.id ? -1 : 1),
  );
}

// The findings that pass the filter.
export function matching(findings, q) {
  const wanted = q.trim().toLowerCase();
  if (!wanted) return findings;
  return findings.filter((f) => [f.id, f.rule, f.severity, f.title, ...(f.services ?? []), ...(f.endpoints ?? [])].some((text) => String(text).toLowerCase().includes(wanted)));
}

// The selected finding, service or edge with its record; null when nothing is selected, `gone` when it is no longer there.
export function selected(doc, view) {
  if (!doc) return null;
  const found = (kind, record) => (record ? { kind, record } : { kind: "gone", record: null });
  if (view.path) return { kind: "path", record: view.path };
  if (view.finding) return found("finding", doc.findings?.find((f) => f.id === view.finding));
  if (view.service) return found("service", doc.services?.find((x) => x.name === view.service));
  if (view.from && view.to) return found("edge", allEdges(doc).find((e) => e.source === view.from && e.destination === view.to));
  return null;
}
