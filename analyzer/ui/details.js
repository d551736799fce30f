// The details of the selection: a finding with its evidence, a service, an edge, a path; nothing selected = the entries.

import { h, replace } from "./dom.js";
import { bytes, clock, number, compact, percent, duration, distribution, plural, operands } from "./format.js";
import { meter, ruleName, severityIcon, severityWord } from "./marks.js";
import { opaqueOf } from "./opaque.js";
import { byWeight } from "./state.js";

const MOST_ROWS = 30;

// Returns the heading of the panel.
export function drawDetails(container, { doc, status, selection, path, actions }) {
  switch (selection?.kind) {
    case "finding":
      replace(container, finding(selection.record, doc, actions));
      return "Finding";
    case "service":
      replace(container, service(selection.record, doc, actions));
      return "Service";
    case "edge":
      replace(container, edge(selection.record, actions));
      return "Edge";
    case "path":
      replace(container, path ? pathDetails(path, actions) : h("p", { class: "quiet" }, "This path is not among those shown."));
      return "Path";
    case "gone":
      replace(container, h("p", { class: "quiet" }, "What was selected is no longer there: the finding has been resolved, or nothing of it was seen since the analyzer started."));
      return "Details";
    default:
      replace(container, overview(doc, status, actions));
      return "Entries";
  }
}

function finding(f, doc, actions) {
  const evidence = f.evidence ?? {};
  const rows = operands(evidence);
  return [
    h("p", { class: `badge ${f.severity}` }, severityIcon(f.severity), severityWord(f.severity), h("span", { class: "dim" }, `${ruleName(f.rule)} · ${f.id}`)),
    h("h3", { class: "title" }, f.title),
    h("p", null, f.summary),
    f.path?.length ? section(f.rule === "CY" ? "The circle" : "The path", chain(f, doc, actions)) : null,
    section("Evidence",
      h("table", { class: "facts" }, h("tbody", null,
        fact("requests seen", number(evidence.n)), fact("linked", evidence.linked), rows.map(([name, value, kind]) => fact(name, value, kind)))),
      evidence.formula ? h("p", { class: "formula" }, evidence.formula) : null),
    f.examples?.length ? section("Example requests", h("ul", { class: "endpoints" }, f.examples.map((one) => h("li", null,
      h("span", { class: "dim" }, `${one.what}: ${duration(one.seconds)}, ${one.outcome}, ${plural(one.calls, "call")} waited for, ${clock(new Date(one.at * 1000))}${one.sampled ? "" : ", not sampled"}`), h("br"), h("code", null, one.trace), h("br"), one.endpoint)))) : null,
    f.why ? section("Why it matters", h("p", null, f.why)) : null,
    f.suggestions?.length ? section("What you can do", h("ol", { class: "suggestions" }, f.suggestions.map((text) => h("li", null, text)))) : null,
    f.endpoints?.length ? section("Endpoints", h("ul", { class: "endpoints" }, f.endpoints.map((text) => h("li", null, text)))) : null,
    f.services?.length ? section("Services", h("p", { class: "chips" }, f.services.map((name) => link(name, () => actions.select({ service: name }), "chip")))) : null,
  ];
}

// The steps one below the other; between two, what is known of the edge.
function chain(f, doc, actions) {
  return h("ol", { class: "chain" }, f.path.map((step, i) => {
    const before = f.path[i - 1];
    const hop = before && doc.edges?.find((e) => e.source === before.service && e.destination === step.service);
    return h("li", null,
      hop ? h("button", { class: "hop", type: "button", "data-key": `hop ${i}`, title: "Show this edge", onclick: () => actions.select({ from: hop.source, to: hop.destination }) },
        meter(hop.blocked_share), `${percent(hop.blocked_share)} waiting · p95 ${duration(hop.duration?.p95)}`) : null,
      h("div", { class: "step" }, link(step.service, () => actions.select({ service: step.service }), "strong", `step ${i}`), h("span", { class: "endpoint" }, step.endpoint)));
  }));
}

function service(x, doc, actions) {
  const edges = doc.edges ?? [];
  const callers = edges.filter((e) => e.destination === x.name);
  const callees = edges.filter((e) => e.source === x.name);
  const own = byWeight(doc.findings).filter((f) => f.services?.includes(x.name));
  return [
    h("h3", { class: "title" }, x.name),
    x.kind === "external" ? h("p", { class: "dim" }, "Known only from its callers: it does not report by itself.") : null,
    x.role ? h("p", { class: "dim" }, `Role: ${x.role}`) : null,
    figures([
      ["requests", compact(x.requests)], ["failed", x.requests ? percent(x.failures / x.requests) : "–"], ["endpoints", number(x.endpoints)],
      ["callers", number(x.fan_in)], ["callees", number(x.fan_out)], ["instances", number(x.instances)],
      ["p50", duration(x.duration?.p50)], ["p95", duration(x.duration?.p95)], ["p99", duration(x.duration?.p99)],
    ]),
    h("table", { class: "facts" }, h("tbody", null,
      fact("longest", duration(x.duration?.max)), fact("links of its calls", linkText(x.links)), x.versions?.length ? fact("versions", x.versions.join(", ")) : null)),
    own.length ? section("Findings", h("ul", { class: "rows" }, own.slice(0, MOST_ROWS).map((f) => h("li", null,
      h("button", { class: "row", type: "button", "data-key": `own ${f.id}`, onclick: () => actions.select({ finding: f.id }) }, severityIcon(f.severity), h("span", { class: "grow" }, f.title)))))) : null,
    edgeList("Callers", callers, (e) => e.source, actions),
    edgeList("Callees", callees, (e) => e.destination, actions),
    opaqueList(opaqueOf(doc, x.name), x.name, actions),
    expectedList((doc.expected ?? []).filter((e) => e.source === x.name)),
    composedList((doc.composed ?? []).filter((c) => c.service === x.name)),
    endpointList(callers, callees, doc, x.name),
  ];
}

function edgeList(title, edges, other, actions) {
  if (!edges.length) return null;
  const sorted = [...edges].sort((a, b) => (b.calls ?? 0) - (a.calls ?? 0) || (other(a) < other(b) ? -1 : 1));
  return section(`${title} (${edges.length})`,
    h("ul", { class: "rows" }, sorted.slice(0, MOST_ROWS).map((e) => h("li", null,
      h("button", { class: "row", type: "button", "data-key": `${title} ${other(e)}`, title: `${e.source} → ${e.destination}: the caller waits ${percent(e.blocked_share)} of its time`, onclick: () => actions.select({ from: e.source, to: e.destination }) },
        h("span", { class: "grow" }, other(e), e.circular ? h("span", { class: "circular-word" }, " circular") : null), meter(e.blocked_share), h("span", { class: "figure" }, percent(e.blocked_share)), h("span", { class: "figure dim" }, compact(e.calls)))))),
    more(sorted));
}

// Where no header links calls to requests: what each endpoint calls on average. Statistics, so no chain leads through them.
function expectedList(pairs) {
  if (!pairs.length) return null;
  const sorted = [...pairs].sort((a, b) => b.calls - a.calls);
  const doubts = (e) => [e.disputed ? "uncertain: counts per second say otherwise" : "", e.aggregate_only ? "true on average only" : "", e.poor_fit ? "uncertain: the endpoint does what is not to be expected" : "", e.position == null ? "" : e.position < 0.5 ? "called first" : `called after ${e.position.toFixed(0)} others`, e.parallel > 0.5 ? "runs beside other calls" : ""].filter(Boolean).join(", ");
  return section(`Found by timing (${pairs.length})`,
    h("p", { class: "dim" }, "Calls per request, and how much of it is nearly certain."),
    h("ul", { class: "rows" }, sorted.slice(0, MOST_ROWS).map((e) => h("li", { title: doubts(e) },
      h("span", { class: "grow" }, `${e.source_endpoint ?? "in the background"} → ${e.destination} ${e.destination_endpoint}${e.disputed || e.poor_fit ? " (uncertain)" : ""}`),
      h("span", { class: "figure" }, e.per_handling == null ? "–" : e.per_handling.toFixed(2)), h("span", { class: "figure dim" }, percent(e.confidence))))),
    more(sorted));
}

// Averages put together where links are missing: no request was seen whole.
function composedList(all) {
  if (!all.length) return null;
  return section(`Likely chains (${all.length})`,
    h("p", { class: "dim" }, "Put together from averages where links are missing; no request was seen whole."),
    h("ul", { class: "rows" }, all.slice(0, MOST_ROWS).map((c) => h("li", { title: `${c.calls.toFixed(1)} calls per request, ${c.services} other services${c.doubtful ? ", uncertain" : ""}` },
      h("span", { class: "grow" }, c.steps.map((s) => `${s.service} ${percent(s.share)}`).join(" → "), c.doubtful ? " (uncertain)" : ""),
      h("span", { class: "figure" }, `depth ${c.depth.toFixed(1)}`), h("span", { class: "figure dim" }, percent(c.confidence))))),
    more(all));
}

// Connections that nobody can read: they are no calls, so they stand apart.
function opaqueList(edges, name, actions) {
  if (!edges.length) return null;
  const sorted = [...edges].sort((a, b) => b.sent_bytes + b.received_bytes - a.sent_bytes - a.received_bytes);
  return section(`Opaque connections (${edges.length})`,
    h("ul", { class: "rows" }, sorted.slice(0, MOST_ROWS).map((e) => h("li", null,
      h("button", { class: "row", type: "button", "data-key": `opaque ${e.source} ${e.destination} ${e.protocol}`, title: `${e.source} → ${e.destination}`, onclick: () => actions.select({ from: e.source, to: e.destination }) },
        h("span", { class: "grow" }, e.source === name ? e.destination : `from ${e.source}`), h("span", { class: "figure" }, e.protocol), h("span", { class: "figure dim" }, bytes(e.sent_bytes + e.received_bytes)))))),
    more(sorted));
}

function opaqueEdge(edge, actions) {
  return [
    h("h3", { class: "title" }, link(edge.source, () => actions.select({ service: edge.source }), "strong"), " → ", link(edge.destination, () => actions.select({ service: edge.destination }), "strong")),
    h("p", { class: "dim" }, "Connections that are passed on untouched: what is in them, nobody can read. They are no calls and count in no finding."),
    ...edge.opaque.map((e) => section(e.protocol, figures([
      ["connections", compact(e.opened)], ["open", compact(e.open)], ["failed", compact(e.failed)],
      ["sent", bytes(e.sent_bytes)], ["received", bytes(e.received_bytes)], ["broken", compact(e.broken)],
      ["p50", duration(e.duration?.p50)], ["p95", duration(e.duration?.p95)], ["longest", duration(e.duration?.max)],
    ]))),
  ];
}

// A service's own endpoints, as entries and callers name them.
function endpointList(callers, callees, doc, name) {
  const calls = new Map();
  for (const e of doc.entries ?? []) if (e.service === name) calls.set(e.endpoint, (calls.get(e.endpoint) ?? 0) + (e.requests ?? 0));
  for (const p of callers.flatMap((e) => e.endpoints ?? [])) calls.set(p.destination_endpoint, (calls.get(p.destination_endpoint) ?? 0) + (p.calls ?? 0));
  for (const p of callees.flatMap((e) => e.endpoints ?? [])) if (p.source_endpoint && !calls.has(p.source_endpoint)) calls.set(p.source_endpoint, null);
  if (!calls.size) return null;
  const sorted = [...calls].sort((a, b) => (b[1] ?? 0) - (a[1] ?? 0) || (a[0] < b[0] ? -1 : 1));
  return section("Endpoints", h("table", { class: "facts" }, h("tbody", null, sorted.slice(0, MOST_ROWS).map(([endpoint, n]) => fact(endpoint, n === null ? "–" : `${compact(n)} calls`, "endpoint")))), more(sorted));
}

function edge(e, actions) {
  if (e.opaque) return opaqueEdge(e, actions);
  const pairs = [...(e.endpoints ?? [])].sort((a, b) => (b.calls ?? 0) - (a.calls ?? 0));
  return [
    h("h3", { class: "title" }, link(e.source, () => actions.select({ service: e.source }), "strong"), " → ", link(e.destination, () => actions.select({ service: e.destination }), "strong")),
    e.circular ? h("p", { class: "circular-word" }, "Part of a circular flow.") : null,
    figures([
      ["calls", compact(e.calls)], ["failed", e.calls ? percent(e.failures / e.calls) : "–"], ["blocking", e.calls ? percent(e.blocking / e.calls) : "–"],
      ["p50", duration(e.duration?.p50)], ["p95", duration(e.duration?.p95)], ["p99", duration(e.duration?.p99)],
    ]),
    h("table", { class: "facts" }, h("tbody", null,
      h("tr", { title: "blocked share = time with a call on this edge in flight ÷ time in the caller's handlers" }, h("th", { scope: "row" }, "caller waits"), h("td", null, meter(e.blocked_share), " ", percent(e.blocked_share))),
      fact("longest", duration(e.duration?.max)), e.network == null ? null : fact("on the way", `${duration(e.network)} per call`),
      e.unpaired ? fact("counted by one side only", `${number(e.unpaired)} calls`) : null,
      e.delayed ? fact("held up on purpose", `${number(e.delayed)} calls`) : null, e.aborted ? fact("answered on purpose", `${number(e.aborted)} requests, which are no calls`) : null, fact("links", linkText(e.links)))),
    pairs.length ? section("Endpoint pairs", h("ul", { class: "pairs" }, pairs.slice(0, MOST_ROWS).map((p) => h("li", null,
      h("div", { class: "endpoint" }, p.source_endpoint || "(unlinked)"), h("div", { class: "endpoint" }, "→ ", p.destination_endpoint),
      h("div", { class: "dim" }, `${compact(p.calls)} calls${p.failures ? ` · ${percent(p.failures / p.calls)} failed` : ""} · p95 ${duration(p.duration?.p95)}`),
      p.per_handling ? h("div", { class: "dim" }, `per handling: ${distribution(p.per_handling)}`) : null))), more(pairs)) : null,
  ];
}

function pathDetails(p, actions) {
  return [
    h("h3", { class: "title" }, link(p.service, () => actions.select({ service: p.service }), "strong")),
    h("p", { class: "endpoint" }, p.endpoint),
    figures([
      ["handlings", compact(p.handlings)], ["per request", Number.isFinite(p.share) ? number(p.share) : "–"], ["failed", p.handlings ? percent(p.failures / p.handlings) : "–"],
      ["p50", duration(p.duration?.p50)], ["p95", duration(p.duration?.p95)], ["p99", duration(p.duration?.p99)],
    ]),
    h("table", { class: "facts" }, h("tbody", null,
      h("tr", { title: "the share of its own time that it spends waiting for calls" }, h("th", { scope: "row" }, "waits for others"), h("td", null, meter(p.blocked_share), " ", percent(p.blocked_share))),
      fact("depth", plural(p.depth ?? 0, "hop")), fact("linked", p.evidence === "exact" || !p.links ? p.evidence : `${p.evidence} (${linkText(p.links)})`), fact("path", p.id),
      p.retries ? fact("made again after failing", number(p.retries)) : null, p.asynchronous ? fact("not waited for", number(p.asynchronous)) : null,
      (p.origins ?? []).map((o) => fact("fails because of", `${o.service} (${number(o.failures)})`)))),
    p.trail?.length > 1 ? section("From the entry", h("ol", { class: "chain" }, p.trail.map((step) => h("li", null, h("div", { class: "step" }, link(step.service, () => actions.select({ path: step.id }), "strong", `trail ${step.id}`), h("span", { class: "endpoint" }, step.endpoint)))))) : null,
  ];
}

function overview(doc, status, actions) {
  const entries = [...(doc.entries ?? [])].sort((a, b) => (b.requests ?? 0) - (a.requests ?? 0));
  const losses = Object.entries(doc.losses ?? {});
  return [
    h("p", { class: "dim" }, "Where requests come in from outside, and what each one needs (p95). Select anything to see its evidence."),
    entries.length ? h("table", { class: "entries" },
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "entry"), h("th", { scope: "col", title: "Requests" }, "req"), h("th", { scope: "col", title: "Service changes along the longest blocking chain" }, "depth"), h("th", { scope: "col", title: "Calls made below" }, "calls"), h("th", { scope: "col" }, "p95"))),
      h("tbody", null, entries.slice(0, MOST_ROWS).map((e) => h("tr", null,
        h("th", { scope: "row" }, link(e.service, () => actions.look({ tab: "chains", entry: `${e.service} ${e.endpoint}` }), "strong", `entry ${e.service} ${e.endpoint}`), h("span", { class: "endpoint" }, e.endpoint), (e.evidence ?? "exact") === "exact" ? null : h("span", { class: "dim" }, ` chain ${e.evidence}`)),
        h("td", null, compact(e.requests)), h("td", null, number(e.depth?.p95)), h("td", null, number(e.calls?.p95)), h("td", null, duration(e.duration?.p95)))))) : null,
    more(entries),
    losses.length ? section("Limits that were reached", h("p", { class: "dim" }, "Totals still count what is beyond a limit; details of it are missing."), h("table", { class: "facts" }, h("tbody", null, losses.map(([name, value]) => fact(name.replaceAll("_", " "), number(value)))))) : null,
    section("How calls were linked", h("p", null, linkText(doc.links)), h("p", { class: "dim" }, "Exact: a trace header ties the call to its request. Inferred: its timing does. Unknown: counted, but in no chain.")),
    status ? section("Analyzer", h("table", { class: "facts" }, h("tbody", null,
      fact("version", status.version), fact("sidecars", number(status.proxies)), fact("reports", number(status.reports)), status.rejected ? fact("rejected", number(status.rejected)) : null, fact("up", duration(status.uptime_seconds)), fact("lag", duration(status.lag_seconds))))) : null,
  ];
}

function linkText(links) {
  const total = (links?.exact ?? 0) + (links?.inferred ?? 0) + (links?.unknown ?? 0);
  if (!total) return "no calls";
  return ["exact", "inferred", "unknown"].filter((kind) => links[kind]).map((kind) => `${percent(links[kind] / total)} ${kind}`).join(" · ");
}

const section = (title, ...children) => h("section", null, h("h4", null, title), children);

const more = (list) => (list.length > MOST_ROWS ? h("p", { class: "dim" }, `and ${number(list.length - MOST_ROWS)} more`) : null);

function fact(name, value, kind) {
  return value === undefined || value === null ? null : h("tr", null, h("th", { scope: "row", class: kind }, name), h("td", null, value));
}

function figures(pairs) {
  return h("dl", { class: "figures" }, pairs.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

function link(text, go, kind = "", key = text) {
  return h("button", { class: `link ${kind}`, type: "button", "data-key": `link ${key}`, onclick: go }, text);
}
