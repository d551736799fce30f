// The page: hears from the analyzer, keeps the view in the URL, and draws both whenever one of them changes.

import { Feed, WINDOWS } from "./api.js";
import { Chains } from "./chains.js";
import { drawDetails } from "./details.js";
import { h, s, replace, hasSelectedText } from "./dom.js";
import { drawEmpty } from "./empty.js";
import { drawFindings, drawVerdict, listed } from "./findings.js";
import { clock, compact, number, percent } from "./format.js";
import { Graph } from "./graph.js";
import { listenToKeys } from "./keys.js";
import { State, selected } from "./state.js";
import { Tip } from "./tip.js";

const $ = (id) => document.getElementById(id);
const LINK_WORDS = { connecting: "connecting…", live: "live", reconnecting: "reconnecting…", stale: "analyzer away" };
const RATE_OVER_MS = 10_000;

const state = new State(schedule);
const tip = new Tip($("tip"));
const actions = {
  select(what, more) {
    tip.hide();
    state.select(what, more);
  },
  look(patch) {
    tip.hide();
    state.look(patch);
  },
};
const graph = new Graph($("graph"), actions, tip);
const chains = new Chains($("chains"), actions, tip, schedule);
const rates = [];

// One drawing per frame; none while a button is held down, for a click needs its target to stay.
let asked = false;
let pressed = false;
function schedule() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (!pressed) draw();
  });
}
addEventListener("pointerdown", () => (pressed = true), true);
for (const end of ["pointerup", "pointercancel"]) {
  addEventListener(end, () => {
    pressed = false;
    setTimeout(schedule);
  }, true);
}

function draw() {
  const { doc, view, status } = state;
  drawHeader(doc);
  drawLink();
  const empty = !doc?.services?.length;
  $("empty").hidden = !doc || !empty;
  $("columns").hidden = empty;
  $("verdict").hidden = empty;
  if (!doc) return;
  if (empty) return drawEmpty($("empty"), status, view.window);
  const selection = selected(doc, view);
  drawVerdict($("verdict"), doc, actions);
  drawFindings($("findings"), doc, view, actions);
  drawStage(doc, view, selection);
  // What the reader has just marked to copy stays until the mark is gone.
  if (!hasSelectedText($("details"))) $("details-title").textContent = drawDetails($("details"), { doc, status, selection, path: view.path ? chains.find(view.path) : null, actions });
  $("close").hidden = !selection;
  if ($("filter") !== document.activeElement) $("filter").value = view.q;
}

function drawHeader(doc) {
  $("window").value = state.view.window ?? "";
  $("system").textContent = doc?.name ?? "";
  document.title = doc?.name ? `${doc.name} · Couplet` : "Couplet";
  if (!doc?.services?.length) return replace($("totals"));
  const total = (name, value, title) => h("div", { title }, h("dt", null, name), h("dd", null, value));
  const rate = perSecond(doc);
  const requests = doc.requests < 1e6 ? number(doc.requests) : compact(doc.requests);
  replace($("totals"),
    total("requests", rate === null ? requests : `${requests} · ${number(rate)}/s`, "Requests that came from outside"),
    total("services", number(doc.services.length), "Services seen"),
    total("edges", number(doc.edges?.length ?? 0), "Pairs of services that call one another"),
    total("links", doc.links?.coverage == null ? "–" : `${percent(doc.links.coverage)} exact`, "Outbound calls that a header ties to the request they were made for"));
}

// Requests per second over the last snapshots; null until two are known.
function perSecond(doc) {
  const last = rates.at(-1);
  if (!last || last.doc !== doc) rates.push({ doc, requests: doc.requests ?? 0, at: state.receivedAt });
  while (rates.length > 2 && rates.at(-1).at - rates[0].at > RATE_OVER_MS) rates.shift();
  const [first, now] = [rates[0], rates.at(-1)];
  if (state.view.window || now.at - first.at < 2_000 || now.requests < first.requests) return null;
  const rate = ((now.requests - first.requests) * 1_000) / (now.at - first.at);
  return rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate);
}

function drawLink() {
  const link = state.staleSince ? "stale" : state.link;
  $("live").dataset.state = link;
  const word = LINK_WORDS[link];
  if ($("live-text").textContent !== word) $("live-text").textContent = word;
  $("banner").hidden = !state.staleSince;
  const text = state.staleSince ? `The analyzer has not answered since ${clock(state.staleSince)}${state.doc ? "; this is its last snapshot" : ""}. Trying again…` : "";
  if ($("banner").textContent !== text) $("banner").textContent = text;
}

function drawStage(doc, view, selection) {
  for (const tab of ["graph", "chains"]) {
    const on = view.tab === tab;
    $(tab).hidden = !on;
    $(`tab-${tab}`).setAttribute("aria-selected", on);
    $(`tab-${tab}`).tabIndex = on ? 0 : -1;
  }
  $("tools").hidden = view.tab !== "graph";
  if (view.tab === "graph") graph.draw(doc, view, selection);
  else chains.draw(doc, view, selection);
}

function walk(step) {
  const { visible } = listed(state.doc, state.view);
  if (!visible.length) return;
  const now = visible.findIndex((f) => f.id === state.view.finding);
  const next = visible[now < 0 ? (step > 0 ? 0 : visible.length - 1) : Math.min(visible.length - 1, Math.max(0, now + step))];
  state.select({ finding: next.id });
  draw();
  $("findings").querySelector(".card.on")?.scrollIntoView({ block: "nearest" });
}

function wire() {
  replace($("window"), WINDOWS.map(([name, words]) => h("option", { value: name ?? "" }, words)));
  const tool = (text, label, go) => h("button", { class: "icon", type: "button", "aria-label": label, title: label, onclick: go }, text);
  const zoom = (factor) => graph.viewport.zoom(factor);
  replace($("tools"), tool("−", "Zoom out (−)", () => zoom(1 / 1.25)), tool("+", "Zoom in (+)", () => zoom(1.25)),
    h("button", { class: "button", type: "button", title: "Fit all of it (0)", onclick: () => zoom(null) }, "Fit"),
    h("button", { class: "button", type: "button", title: "Lay the graph out afresh; otherwise services keep their places", onclick: () => state.doc && graph.tidy() }, "Tidy"));
  const tabs = ["graph", "chains"];
  for (const tab of tabs) {
    $(`tab-${tab}`).addEventListener("click", () => state.look({ tab }));
    $(`tab-${tab}`).addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      event.stopPropagation();
      const other = tabs[1 - tabs.indexOf(tab)];
      state.look({ tab: other });
      $(`tab-${other}`).focus();
    });
  }
  const theme = () => document.dispatchEvent(new Event("couplet:theme"));
  $("theme").append(s("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, s("circle", { cx: 8, cy: 8, r: 6, class: "theme-ring" }), s("path", { d: "M8 2a6 6 0 0 1 0 12z", class: "theme-half" })));
  $("theme").addEventListener("click", theme);
  $("filter").addEventListener("input", () => state.look({ q: $("filter").value }));
  $("close").addEventListener("click", () => state.select({}));
  $("keys-open").addEventListener("click", () => $("keys").showModal());
  // The hash belongs to the view, so the skip link moves the focus itself.
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("main").focus();
  });
  listenToKeys({
    walk,
    zoom,
    theme,
    tab: (tab) => actions.look({ tab }),
    filter: () => $("filter").focus(),
    open: () => $("details").focus(),
    help: () => $("keys").showModal(),
    escape: () => {
      if (state.view.q) {
        $("filter").value = "";
        state.look({ q: "" });
      } else {
        state.select({});
      }
      if (document.activeElement === $("filter")) $("filter").blur();
    },
  });
}

wire();
draw();
const feed = new Feed((patch) => state.hear(patch), () => state.view.window);
$("window").addEventListener("change", (event) => {
  rates.length = 0;
  state.look({ window: event.target.value || null });
  feed.refresh();
});
addEventListener("popstate", () => feed.refresh());
feed.resume();
