// The coupling graph: services as boxes from left to right by call depth, edges coloured by how much callers wait.

import { h, s, replace } from "./dom.js";
import { bytes, compact, number, percent, duration, plural } from "./format.js";
import { worstByService, severityMark, blockedLevel } from "./marks.js";
import { layout, edgeKey } from "./layout.js";
import { allEdges } from "./opaque.js";
import { routes } from "./route.js";
import { spotlight } from "./spotlight.js";
import { Viewport } from "./viewport.js";

const MOST_BOXES = 40;
// A box that is drawn stays until it falls clearly behind, so that the picture does not flicker at the border.
const STAYS_UNTIL = 48;

export class Graph {
  // actions: select(what), look(patch); tip: show(lines, event), hide().
  constructor(container, actions, tip) {
    Object.assign(this, { actions, tip, shown: new Set(), placed: null, all: false, hovered: null, focusable: null, boxes: new Map(), elements: { nodes: new Map(), edges: new Map() } });
    this.group = s("g");
    this.svg = s("svg", { class: "graph", role: "group", "aria-label": "Coupling graph. Arrow keys move between services, Enter shows details.", onkeydown: (e) => this.onKey(e) }, this.group);
    this.svg.addEventListener("click", () => this.actions.select({}));
    this.foot = h("div", { class: "legend" });
    container.append(this.svg, this.foot);
    this.viewport = new Viewport(this.svg, this.group, (at) => this.actions.look({ at }));
    new ResizeObserver(() => this.doc && this.draw(this.doc, this.view, this.selection)).observe(this.svg);
  }

  draw(doc, view, selection) {
    Object.assign(this, { doc, view, selection });
    if (!this.svg.clientWidth) return;
    if (view.all !== this.all) this.placed = null;
    this.all = view.all;
    const services = this.choose(doc, view, selection);
    const names = new Set(services.map((x) => x.name));
    const edges = allEdges(doc).filter((e) => names.has(e.source) && names.has(e.destination));
    const entries = new Map();
    for (const e of doc.entries ?? []) entries.set(e.service, (entries.get(e.service) ?? 0) + (e.requests ?? 0));
    this.placed = layout(services.map((x) => ({ name: x.name, weight: traffic(x), entry: entries.get(x.name) ?? 0 })), edges, this.placed);
    this.measure(services);
    this.paint(services, edges, entries);
    this.legend(doc, services.length);
    this.viewport.show(this.bounds, view.at);
    this.light();
  }

  tidy() {
    this.placed = null;
    this.viewport.zoom(null);
    this.draw(this.doc, { ...this.view, at: null }, this.selection);
  }

  // The heaviest services, with what is selected always among them.
  choose(doc, view, selection) {
    const ranked = [...(doc.services ?? [])].sort((a, b) => traffic(b) - traffic(a) || (a.name < b.name ? -1 : 1));
    const wanted = spotlight(doc, selection, "")?.services ?? new Set();
    const kept = view.all || ranked.length <= MOST_BOXES ? ranked : fold(ranked, this.shown, wanted);
    this.shown = new Set(kept.map((x) => x.name));
    return kept;
  }

  // Turns layers into columns: as wide as the window allows, as narrow as names allow.
  measure(services) {
    const { places } = this.placed;
    const columns = Math.max(...[...places.values()].map((p) => p.layer), 0) + 1;
    const ys = [...places.values()].map((p) => p.y);
    const { width, height } = this.viewport.size();
    // A tall drawing is spread until it has the window's proportions.
    const spread = ((Math.max(...ys) - Math.min(...ys)) * width) / height / columns;
    this.pitch = Math.min(480, Math.max(140, Math.min(224, width / columns), spread));
    this.width = Math.min(152, this.pitch - Math.max(32, this.pitch * 0.28));
    this.boxes = new Map(services.map((x) => {
      const { layer, y, height } = places.get(x.name);
      return [x.name, { x: layer * this.pitch, y, width: this.width, height }];
    }));
    const boxes = [...this.boxes.values()];
    this.bounds = {
      left: Math.min(0, ...boxes.map((b) => b.x - b.width / 2)),
      right: Math.max(1, ...boxes.map((b) => b.x + b.width / 2)),
      top: Math.min(...boxes.map((b) => b.y - b.height / 2)),
      bottom: Math.max(...boxes.map((b) => b.y + b.height / 2)),
    };
  }

  paint(services, edges, entries) {
    const courses = routes(edges, this.boxes, (e) => (this.placed.bends.get(edgeKey(e)) ?? []).map(({ layer, y }) => ({ x: layer * this.pitch, y })));
    for (const { back, middle } of courses.values()) {
      if (!back) continue;
      this.bounds.bottom = Math.max(this.bounds.bottom, middle.y + 8);
      this.bounds.top = Math.min(this.bounds.top, middle.y - 16);
    }
    const most = Math.max(1, ...edges.map((e) => e.calls ?? 0));
    const worst = worstByService(this.doc.findings);
    const lines = [...edges].sort((a, b) => (a.calls ?? 0) - (b.calls ?? 0)).map((e) => this.line(e, courses.get(edgeKey(e)), most));
    if (!this.boxes.has(this.focusable)) this.focusable = this.leftmost();
    const boxes = services.map((x) => this.box(x, entries.get(x.name), worst.get(x.name)));
    replace(this.group, s("g", null, lines.map((l) => l.edge)), s("g", null, boxes), s("g", null, lines.map((l) => l.label)));
    this.elements.edges = new Map(lines.map((l) => [l.key, l]));
    this.elements.nodes = new Map(services.map((x, i) => [x.name, boxes[i]]));
  }

  line(edge, { path, arrow, middle }, most) {
    const key = edgeKey(edge);
    const width = 1.25 + (3.75 * Math.log1p(edge.calls ?? 0)) / Math.log1p(most);
    const kind = `edge b${blockedLevel(edge.blocked_share)}${edge.circular ? " circular" : ""}${edge.blocked_share < 0.1 ? " loose" : ""}${edge.opaque ? " opaque" : ""}`;
    const hover = { onpointerenter: (e) => this.hover({ edge }, e), onpointermove: (e) => this.tip.move(e), onpointerleave: () => this.hover(null) };
    const element = s("g", { class: kind, ...hover, onclick: (e) => this.pick(e, { from: edge.source, to: edge.destination }) },
      s("path", { class: "hit", d: path }), s("path", { class: "line", d: path, "stroke-width": width.toFixed(2) }), s("path", { class: "tip-arrow", d: arrow }));
    const label = s("text", { class: "edge-label", x: middle.x, y: middle.y - 5, "text-anchor": "middle" }, edge.opaque ? protocols(edge.opaque) : percent(edge.blocked_share).replace("\u00a0", ""));
    return { key, source: edge.source, destination: edge.destination, edge: element, label };
  }

  box(service, entry, severity) {
    const { x, y, width, height } = this.boxes.get(service.name);
    const failed = service.requests ? service.failures / service.requests : 0;
    const figure = service.kind === "external" ? "external" : `${compact(service.requests)} req`;
    const label = `${service.name}, ${plural(service.requests ?? 0, "request")}${entry ? ", called from outside" : ""}${severity ? `, ${severity} finding` : ""}`;
    return s("g", {
      class: `node${service.kind === "external" ? " external" : ""}${entry ? " entry" : ""}`, transform: `translate(${x - width / 2},${y - height / 2})`, role: "button", "aria-label": label,
      tabindex: service.name === this.focusable ? 0 : -1, "data-key": `node ${service.name}`,
      onclick: (e) => this.pick(e, { service: service.name }), onfocus: () => this.hover({ service }), onblur: () => this.hover(null),
      onpointerenter: (e) => this.hover({ service }, e), onpointermove: (e) => this.tip.move(e), onpointerleave: () => this.hover(null),
    },
    s("rect", { class: "box", width, height, rx: 8 }),
    entry ? s("rect", { class: "entry-bar", x: 0, y: 10, width: 3, height: height - 20, rx: 1.5 }) : null,
    s("text", { class: "name", x: 9, y: height / 2 - 3 }, shorten(service.name, width - 16)),
    s("text", { class: "figure", x: 9, y: height / 2 + 12 }, shorten(figure, width - 16),
      failed > 0 && width > 120 ? s("tspan", { class: "failed" }, ` · ${percent(failed)} failed`) : null),
    severity ? s("g", { transform: `translate(${width - 11},-6)` }, severityMark(severity, 14)) : null);
  }

  legend(doc, drawn) {
    const total = doc.services?.length ?? 0;
    const steps = [0, 1, 2, 3, 4, 5, 6].map((level) => h("i", { class: `swatch b${level}` }));
    replace(this.foot,
      h("span", { title: "The share of the caller's time that it spends waiting for the callee; thicker = more calls" }, "caller waits 0 % ", h("span", { class: "ramp" }, steps), " 100 %"),
      doc.opaque?.length ? h("span", { class: "opaque-key", title: "Databases, queues, TLS: connections that are passed on untouched" }, h("i"), "opaque connections") : null,
      doc.edges?.some((e) => e.circular) ? h("span", { class: "circular-key" }, h("i"), "circular") : null,
      total > MOST_BOXES
        ? h("button", { class: "link", type: "button", "data-key": "fold", onclick: () => this.actions.look({ all: !this.view.all, at: null }) },
          this.view.all ? `fold to the heaviest ${MOST_BOXES}` : `${number(drawn)} of ${number(total)} services · show all`)
        : null);
  }

  // Dims everything but the hovered or selected neighbourhood.
  light() {
    const hovered = this.hovered?.service ? { kind: "service", record: this.hovered.service } : this.hovered?.edge ? { kind: "edge", record: this.hovered.edge } : null;
    const lit = hovered ? spotlight(this.doc, hovered, "") : spotlight(this.doc, this.selection, this.view.q);
    this.svg.classList.toggle("lit", Boolean(lit));
    const chosen = this.selection?.kind === "service" ? this.selection.record.name : null;
    for (const [name, element] of this.elements.nodes) {
      element.classList.toggle("on", Boolean(lit?.services.has(name)));
      element.classList.toggle("chosen", name === chosen);
    }
    const labels = lit && lit.edges.size <= 16;
    for (const [key, { edge, label }] of this.elements.edges) {
      const on = Boolean(lit?.edges.has(key));
      edge.classList.toggle("on", on);
      label.classList.toggle("on", on && labels);
    }
  }

  hover(what, event) {
    if (this.viewport.dragged && this.viewport.drag) return;
    this.hovered = what;
    this.light();
    if (!what || !event) this.tip.hide();
    else if (what.edge) this.tip.show([`${what.edge.source} → ${what.edge.destination}`, ...edgeLines(what.edge)], event);
    else this.tip.show([what.service.name, ...serviceLines(what.service)], event);
  }

  pick(event, what) {
    event.stopPropagation();
    this.actions.select(what);
  }

  onKey(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const name = event.target.dataset?.key?.slice("node ".length);
    if (!this.boxes.has(name)) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      event.stopPropagation();
      this.actions.select({ service: name });
    } else if (steps[event.key]) {
      event.preventDefault();
      event.stopPropagation();
      const next = nearest(this.boxes, name, ...steps[event.key]);
      if (!next) return;
      this.elements.nodes.get(this.focusable)?.setAttribute("tabindex", -1);
      this.focusable = next;
      this.elements.nodes.get(next).setAttribute("tabindex", 0);
      this.elements.nodes.get(next).focus();
    }
  }

  leftmost() {
    let best = null;
    for (const [name, box] of this.boxes) if (!best || box.x < best.x || (box.x === best.x && box.y < best.y)) best = { name, ...box };
    return best?.name ?? null;
  }
}

// How much passes a service; one that only calls, or only is called, counts with what is known of it.
const traffic = (service) => service.requests ?? 0;

function fold(ranked, shown, wanted) {
  const kept = ranked.filter((x, rank) => wanted.has(x.name) || rank < MOST_BOXES || (rank < STAYS_UNTIL && shown.has(x.name)));
  if (kept.length <= STAYS_UNTIL) return kept;
  return ranked.filter((x, rank) => wanted.has(x.name) || rank < MOST_BOXES);
}

const protocols = (opaque) => [...new Set(opaque.map((e) => e.protocol))].join(", ");

function edgeLines(edge) {
  if (edge.opaque) return edge.opaque.map((e) => `${e.protocol}: ${plural(e.opened, "connection")}, ${number(e.open)} open · ${bytes(e.sent_bytes)} sent, ${bytes(e.received_bytes)} received`);
  return [
    `${plural(edge.calls ?? 0, "call")}${edge.failures ? ` · ${percent(edge.failures / edge.calls)} failed` : ""}`,
    `caller waits ${percent(edge.blocked_share)} of its time`,
    `p50 ${duration(edge.duration?.p50)} · p95 ${duration(edge.duration?.p95)}`,
    ...(edge.circular ? ["part of a circular flow"] : []),
  ];
}

function serviceLines(service) {
  return [
    `${plural(service.requests ?? 0, "request")}${service.failures ? ` · ${percent(service.failures / service.requests)} failed` : ""}`,
    `${plural(service.fan_in ?? 0, "caller")} · ${plural(service.fan_out ?? 0, "callee")}`,
    `p50 ${duration(service.duration?.p50)} · p95 ${duration(service.duration?.p95)}`,
  ];
}

// The box nearest in one direction: sideways the next column counts most, up and down the same column.
function nearest(boxes, from, dx, dy) {
  const origin = boxes.get(from);
  let best = null;
  for (const [name, box] of boxes) {
    const ahead = (box.x - origin.x) * dx + (box.y - origin.y) * dy;
    const aside = Math.abs((box.x - origin.x) * dy) + Math.abs((box.y - origin.y) * dx);
    const cost = dx ? 8 * ahead + aside : ahead + 8 * aside;
    if (ahead < 4 || (best && cost >= best.cost)) continue;
    best = { name, cost };
  }
  return best?.name ?? null;
}

const ruler = document.createElement("canvas").getContext("2d");
ruler.font = `600 12px ${getComputedStyle(document.body).fontFamily}`;

function shorten(text, width) {
  if (ruler.measureText(text).width <= width) return text;
  let kept = Math.min(text.length, Math.ceil(width / 4));
  while (kept > 1 && ruler.measureText(`${text.slice(0, kept)}…`).width > width) kept -= 1;
  return `${text.slice(0, kept)}…`;
}
