// Which services and edges belong to a selection. Pure.

import { edgeKey } from "./layout.js";
import { allEdges } from "./opaque.js";

// selection: {kind, record} or null; q = filter text. Returns {services: Set, edges: Set of edgeKey}, or null for "all alike".
export function spotlight(doc, selection, q) {
  const edges = allEdges(doc);
  switch (selection?.kind) {
    case "service": {
      const { name } = selection.record;
      const near = edges.filter((e) => e.source === name || e.destination === name);
      return lit([name, ...near.flatMap((e) => [e.source, e.destination])], near);
    }
    case "edge": {
      const { source, destination } = selection.record;
      return lit([source, destination], edges.filter((e) => e.source === source && e.destination === destination));
    }
    case "finding":
      return ofFinding(selection.record, edges);
    default:
      return ofFilter(doc, edges, q);
  }
}

// A path lights its steps; a fan-out lights the calls of the hotspot; anything else what runs between its services.
function ofFinding(finding, edges) {
  const steps = finding.path ?? [];
  const named = new Set([...(finding.services ?? []), ...steps.map((step) => step.service)]);
  const pairs = new Set(steps.slice(1).map((step, i) => edgeKey({ source: steps[i].service, destination: step.service })));
  if (finding.rule === "FO") {
    const hotspot = owner(finding);
    const own = edges.filter((e) => e.source === hotspot && (named.size < 2 || named.has(e.destination)));
    if (own.length) return lit([...named, ...own.map((e) => e.destination)], own);
  }
  const belongs = pairs.size ? (e) => pairs.has(edgeKey(e)) : (e) => named.has(e.source) && named.has(e.destination);
  return lit([...named], edges.filter(belongs));
}

// The service whose endpoint a finding names first ("frontend GET /checkout").
export function owner(finding) {
  const first = finding.endpoints?.[0] ?? "";
  return (finding.services ?? []).filter((name) => first.startsWith(`${name} `)).sort((a, b) => b.length - a.length)[0] ?? finding.path?.[0]?.service ?? null;
}

function ofFilter(doc, edges, q) {
  const wanted = q?.trim().toLowerCase();
  if (!wanted) return null;
  const named = new Set((doc?.services ?? []).map((x) => x.name).filter((name) => name.toLowerCase().includes(wanted)));
  return named.size ? lit([...named], edges.filter((e) => named.has(e.source) && named.has(e.destination))) : null;
}

const lit = (services, edges) => ({ services: new Set(services), edges: new Set(edges.map(edgeKey)) });
