// The words and signs that findings, graph and details share: rules, severities, the blocked-share scale.

import { h, s } from "./dom.js";

const RANK = { critical: 3, warn: 2, info: 1 };

// [one, many, long name] of every rule, as said in the verdict.
const RULES = {
  SC: ["deep chain", "deep chains", "Synchronous chain"],
  CA: ["fragile chain", "fragile chains", "Chain availability"],
  FO: ["fan-out hotspot", "fan-out hotspots", "Fan-out hotspot"],
  CY: ["circular flow", "circular flows", "Circular flow"],
  HB: ["hub", "hubs", "Hub"],
  CH: ["chatty pair", "chatty pairs", "Chatty pair"],
  NP: ["repeated call (1+N)", "repeated calls (1+N)", "Repeated call (1+N)"],
  TC: ["tightly coupled edge", "tightly coupled edges", "Temporal coupling"],
  BR: ["wide blast radius", "wide blast radii", "Blast radius"],
  SP: ["single point of failure", "single points of failure", "Single point"],
  RT: ["retry amplification", "retry amplifications", "Retry amplification"],
  TO: ["timeout at odds", "timeouts at odds", "Timeout"],
  SD: ["shared store", "shared stores", "Shared store"],
  LD: ["lockstep deployment", "lockstep deployments", "Lockstep deployment"],
  BD: ["break on deploy", "breaks on deploy", "Break on deploy"],
  LV: ["layer violation", "layer violations", "Layer violation"],
  FB: ["forbidden edge", "forbidden edges", "Forbidden edge"],
  ND: ["new dependency", "new dependencies", "New dependency"],
  DR: ["drift", "drifts", "Drift"],
  PR: ["lost context", "lost contexts", "Context not propagated"],
};

export function ruleCount(rule, count) {
  const [one, many] = RULES[rule] ?? [`${rule} finding`, `${rule} findings`];
  return `${count} ${count === 1 ? one : many}`;
}

export const ruleName = (rule) => RULES[rule]?.[2] ?? rule;

export const severityWord = (severity) => ({ critical: "critical", warn: "warning", info: "note" })[severity] ?? String(severity);

const SHAPES = {
  critical: "M5 .8h6L15.2 5v6L11 15.2H5L.8 11V5z",
  warn: "M8 1.2 15.5 14.6H.5z",
  info: "M8 .8a7.2 7.2 0 1 1 0 14.4A7.2 7.2 0 0 1 8 .8z",
};

// The sign of a severity: shape and colour both say it. `g` in 16 units, scaled to `size`.
export function severityMark(severity, size = 16) {
  const known = SHAPES[severity] ? severity : "info";
  return s("g", { class: `mark ${known}`, transform: `scale(${size / 16})`, "aria-hidden": "true" },
    s("path", { class: "shape", d: SHAPES[known] }),
    known === "info" ? s("path", { class: "sign", d: "M8 7.2v4.3M8 4.3v.6" }) : s("path", { class: "sign", d: known === "warn" ? "M8 6v4M8 12.2v.4" : "M8 4.2v4.4M8 11.3v.5" }));
}

export function severityIcon(severity) {
  return s("svg", { class: "severity-icon", viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, severityMark(severity));
}

// The worst severity at warn or above of the findings that name a service.
export function worstByService(findings) {
  const worst = new Map();
  for (const { severity, services } of findings ?? []) {
    if (severity === "info") continue;
    for (const name of services ?? []) if ((RANK[severity] ?? 0) > (RANK[worst.get(name)] ?? 0)) worst.set(name, severity);
  }
  return worst;
}

// The step 0..6 of the blocked-share scale.
export const blockedLevel = (share) => (Number.isFinite(share) ? Math.min(6, Math.max(0, Math.floor(share * 7))) : 0);

// A bar that is `share` full, coloured on the blocked-share scale.
export function meter(share) {
  const fill = h("i", { class: `swatch b${blockedLevel(share)}` });
  fill.style.width = `${Math.min(100, Math.max(0, (share || 0) * 100))}%`;
  return h("span", { class: "meter", "aria-hidden": "true" }, fill);
}
