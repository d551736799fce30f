// Connections that nobody can read, as edges of their own kind beside the calls. Pure.

// All edges of the picture: calls, and where there are none between two services, the connections between them.
export function allEdges(doc) {
  const calls = doc?.edges ?? [];
  const seen = new Set(calls.map((e) => JSON.stringify([e.source, e.destination])));
  const bySides = new Map();
  for (const e of doc?.opaque ?? []) {
    const sides = JSON.stringify([e.source, e.destination]);
    if (seen.has(sides) || e.source === e.destination) continue;
    const edge = bySides.get(sides) ?? { source: e.source, destination: e.destination, opaque: [] };
    edge.opaque.push(e);
    bySides.set(sides, edge);
  }
  return [...calls, ...bySides.values()];
}

// The opaque connections of a service, or between two.
export const opaqueOf = (doc, service) => (doc?.opaque ?? []).filter((e) => e.source === service || e.destination === service);
