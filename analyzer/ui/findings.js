// The verdict in words, and the list of findings, worst first.

import { h, replace } from "./dom.js";
import { number, compact, plural } from "./format.js";
import { ruleCount, ruleName, severityIcon, severityWord } from "./marks.js";
import { byWeight, matching } from "./state.js";

const MOST_SERVICES = 12;
const MOST_FINDINGS = 200;

// Counts by rule, and one sentence for the worst.
export function drawVerdict(container, doc, actions) {
  const all = byWeight(doc.findings);
  const counted = all.filter((f) => f.severity !== "info");
  const rules = [...new Set(counted.map((f) => f.rule))];
  const worst = counted[0];
  container.dataset.severity = worst?.severity ?? "none";
  if (!worst) {
    const notes = all.length ? ` ${plural(all.length, "note")} below.` : "";
    replace(container,
      h("p", { class: "counts" }, h("span", { class: "count calm" }, "No deep chain, circular flow, fan-out hotspot or repeated call above the thresholds.")),
      h("p", { class: "worst" }, `Seen in ${plural(doc.requests ?? 0, "request")}.${notes}`));
    return;
  }
  const counts = rules.map((rule) => {
    const own = counted.filter((f) => f.rule === rule);
    return h("button", { class: "count", type: "button", "data-key": `rule ${rule}`, title: `Show the first of them: ${own[0].title}`, onclick: () => actions.select({ finding: own[0].id }) },
      severityIcon(own[0].severity), ruleCount(rule, own.length));
  });
  replace(container, h("p", { class: "counts" }, counts), h("p", { class: "worst" }, h("b", null, "Worst: "), worst.summary || worst.title));
}

// What the list shows, in order; the keyboard walks along it.
export function listed(doc, view) {
  const found = matching(byWeight(doc?.findings), view.q);
  const notes = found.filter((f) => f.severity === "info");
  const main = found.filter((f) => f.severity !== "info").slice(0, MOST_FINDINGS);
  const open = view.notes || notes.some((f) => f.id === view.finding);
  return { main, notes: notes.slice(0, MOST_FINDINGS), open, visible: open ? [...main, ...notes] : main };
}

export function drawFindings(container, doc, view, actions) {
  const { main, notes, open } = listed(doc, view);
  replace(container,
    main.length ? h("ul", { class: "cards", "aria-label": "Findings" }, main.map((f) => card(f, view, actions))) : h("p", { class: "quiet" }, emptyText(doc, view)),
    notes.length
      ? [
        h("button", { class: "fold", type: "button", "aria-expanded": open, "data-key": "notes", onclick: () => actions.look({ notes: !open, ...(open && notes.some((f) => f.id === view.finding) ? { finding: null } : {}) }) },
          h("span", { class: "chevron", "aria-hidden": "true" }), plural(notes.length, "note")),
        open ? h("ul", { class: "cards", "aria-label": "Notes" }, notes.map((f) => card(f, view, actions))) : null,
      ]
      : null,
    services(doc, view, actions));
}

function emptyText(doc, view) {
  if (view.q.trim()) return "No finding matches the filter.";
  const most = Math.max(0, ...(doc.services ?? []).map((x) => x.requests ?? 0));
  return most < 50 ? `Still watching: findings need about 50 requests of one kind, ${number(most)} so far.` : "Nothing to worry about.";
}

function card(finding, view, actions) {
  const on = finding.id === view.finding;
  return h("li", null,
    h("button", { class: `card ${finding.severity}${on ? " on" : ""}`, type: "button", "aria-current": on ? "true" : null, "data-key": `finding ${finding.id}`, onclick: () => actions.select(on ? {} : { finding: finding.id }) },
      h("span", { class: "card-head" }, severityIcon(finding.severity), h("span", { class: "severity" }, severityWord(finding.severity)), h("span", { class: "rule", title: ruleName(finding.rule) }, finding.rule)),
      h("span", { class: "card-title" }, finding.title)));
}

// With a filter, the services that match it; else the ones that handle most.
function services(doc, view, actions) {
  const wanted = view.q.trim().toLowerCase();
  const matches = (doc.services ?? []).filter((x) => x.name.toLowerCase().includes(wanted));
  if (!matches.length) return null;
  const shown = [...matches].sort((a, b) => (b.requests ?? 0) - (a.requests ?? 0) || (a.name < b.name ? -1 : 1)).slice(0, MOST_SERVICES);
  return [
    h("h3", { class: "sub" }, wanted ? "Matching services" : "Busiest services", h("span", null, matches.length > shown.length ? `${shown.length} of ${matches.length}` : number(matches.length))),
    h("ul", { class: "rows" }, shown.map((x) => h("li", null,
      h("button", { class: `row${view.service === x.name ? " on" : ""}`, type: "button", "aria-current": view.service === x.name ? "true" : null, "data-key": `service ${x.name}`, onclick: () => actions.select({ service: x.name }) },
        h("span", { class: "grow" }, x.name), h("span", { class: "dim" }, x.kind === "external" ? "external" : `${compact(x.requests)} req`))))),
  ];
}
