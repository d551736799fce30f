// Where the services stand: layers from left to right by the longest call depth, few crossings, short edges.
// Pure and deterministic: the same graph gives the same places, and what has a place keeps it.

const GAP = 16;
const LANE = 8;
const SWEEPS = 12;
const MOST_EDGES_WITH_LANES = 500;
// Beyond these shares of new or wrongly placed parts a graph is still being discovered, and is laid out afresh.
const MOST_NEW = 0.5;
const MOST_BACKWARD = 0.12;

export const edgeKey = (edge) => `${edge.source}\u0000${edge.destination}`;

// nodes: [{name, weight, entry}] (entry = requests from outside), edges: [{source, destination, circular}].
// Returns {places: Map name → {layer, y, height}, bends: Map edgeKey → [{layer, y}]}, y = the middle.
export function layout(nodes, edges, previous = null) {
  const names = new Set(nodes.map((node) => node.name));
  const sorted = [...nodes].sort((a, b) => compare(a.name, b.name));
  const known = edges
    .filter((e) => names.has(e.source) && names.has(e.destination) && e.source !== e.destination)
    .sort((a, b) => compare(a.source, b.source) || compare(a.destination, b.destination));
  return previous && stillFits(sorted, known, previous) ? extend(sorted, known, previous) : afresh(sorted, known);
}

function stillFits(nodes, edges, { places }) {
  const fresh = nodes.filter((node) => !places.has(node.name)).length;
  if (fresh > (nodes.length - fresh) * MOST_NEW) return false;
  const placed = edges.filter((e) => places.has(e.source) && places.has(e.destination));
  const backward = placed.filter((e) => !e.circular && places.get(e.source).layer >= places.get(e.destination).layer);
  return backward.length <= Math.max(1, placed.length * MOST_BACKWARD);
}

// A node's height says how much traffic passes it, in three steps.
function heights(nodes) {
  const most = Math.max(1, ...nodes.map((node) => node.weight));
  return new Map(nodes.map((node) => [node.name, node.weight > most / 4 ? 56 : node.weight > most / 32 ? 48 : 40]));
}

function afresh(nodes, edges) {
  const layers = longestDepths(nodes, edges);
  const height = heights(nodes);
  const cells = new Map(nodes.map((node) => [node.name, { key: node.name, layer: layers.get(node.name), height: height.get(node.name), left: [], right: [], y: 0, lane: false }]));
  const bends = new Map();
  const lanes = edges.length <= MOST_EDGES_WITH_LANES;
  for (const edge of edges) {
    let from = cells.get(edge.source);
    const to = cells.get(edge.destination);
    if (from.layer >= to.layer) continue;
    const chain = [];
    // An edge over several layers gets a lane in each layer between, so that it passes between the boxes.
    for (let layer = from.layer + 1; lanes && layer < to.layer; layer += 1) {
      const lane = { key: `${edgeKey(edge)}\u0000${layer}`, layer, height: LANE, left: [], right: [], y: 0, lane: true };
      cells.set(lane.key, lane);
      chain.push(lane);
      connect(from, lane);
      from = lane;
    }
    connect(from, to);
    if (chain.length) bends.set(edgeKey(edge), chain);
  }
  const columns = columnsOf([...cells.values()].filter(isConnected));
  uncross(columns);
  straighten(columns);
  stackBelow([...cells.values()].filter((cell) => !isConnected(cell)), columns);
  const places = new Map(nodes.map(({ name }) => [name, pick(cells.get(name))]));
  return { places, bends: new Map([...bends].map(([key, chain]) => [key, chain.map(({ layer, y }) => ({ layer, y }))])) };
}

const isConnected = (cell) => cell.left.length > 0 || cell.right.length > 0;

// What nobody calls and calls nobody stands in rows under the rest.
function stackBelow(cells, columns) {
  const bottom = Math.max(-72, ...columns.flat().map((cell) => cell.y + cell.height / 2));
  cells.forEach((cell, i) => {
    cell.layer = i % Math.max(1, columns.length);
    cell.y = bottom + 72 + Math.floor(i / Math.max(1, columns.length)) * 72;
  });
}

const pick = ({ layer, y, height }) => ({ layer, y, height });

function connect(a, b) {
  a.right.push(b);
  b.left.push(a);
}

// The longest chain of calls from an entry to each service, without the edges that close a circle.
function longestDepths(nodes, edges) {
  const out = new Map(nodes.map((node) => [node.name, []]));
  const incoming = new Map(nodes.map((node) => [node.name, 0]));
  for (const e of edges) {
    out.get(e.source).push(e.destination);
    incoming.set(e.destination, incoming.get(e.destination) + 1);
  }
  const starts = [...nodes].sort((a, b) => b.entry - a.entry || incoming.get(a.name) - incoming.get(b.name) || compare(a.name, b.name));
  const order = [];
  const mark = new Map();
  const forward = new Map(nodes.map((node) => [node.name, []]));
  for (const start of starts) {
    if (mark.has(start.name)) continue;
    const stack = [{ name: start.name, next: 0 }];
    mark.set(start.name, "open");
    while (stack.length) {
      const top = stack.at(-1);
      const to = out.get(top.name)[top.next];
      top.next += 1;
      if (to === undefined) {
        mark.set(top.name, "done");
        order.push(top.name);
        stack.pop();
      } else if (mark.get(to) !== "open") {
        forward.get(top.name).push(to);
        if (!mark.has(to)) {
          mark.set(to, "open");
          stack.push({ name: to, next: 0 });
        }
      }
    }
  }
  const depth = new Map(nodes.map((node) => [node.name, 0]));
  for (const name of order.reverse()) {
    for (const to of forward.get(name)) depth.set(to, Math.max(depth.get(to), depth.get(name) + 1));
  }
  return depth;
}

function columnsOf(cells) {
  const columns = [];
  for (const cell of cells) (columns[cell.layer] ??= []).push(cell);
  return Array.from(columns, (column) => column ?? []);
}

// Orders each column by the mean position of its neighbours, back and forth, and keeps the best order seen.
function uncross(columns) {
  const number = (column) => column.forEach((cell, i) => (cell.index = i));
  columns.forEach(number);
  let best = null;
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const rightwards = sweep % 2 === 0;
    for (const column of rightwards ? columns : [...columns].reverse()) {
      const wish = new Map(column.map((cell) => [cell, mean((rightwards ? cell.left : cell.right).map((n) => relative(n, columns)), relative(cell, columns))]));
      column.sort((a, b) => wish.get(a) - wish.get(b) || a.index - b.index);
      number(column);
    }
    const crossings = count(columns);
    if (best === null || crossings < best.crossings) best = { crossings, index: columns.map((column) => [...column]) };
  }
  best?.index.forEach((column, layer) => {
    columns[layer] = column;
    number(column);
  });
}

const relative = (cell, columns) => (cell.index + 0.5) / columns[cell.layer].length;

// Crossings between neighbouring columns: inversions, counted with a Fenwick tree.
function count(columns) {
  let total = 0;
  for (const [layer, column] of columns.entries()) {
    const size = columns[layer + 1]?.length ?? 0;
    const tree = new Array(size + 1).fill(0);
    let seen = 0;
    for (const cell of column) {
      const ends = cell.right.map((to) => to.index).sort((a, b) => a - b);
      for (const end of ends) {
        let before = 0;
        for (let i = end + 1; i > 0; i -= i & -i) before += tree[i];
        total += seen - before;
      }
      for (const end of ends) for (let i = end + 1; i <= size; i += i & -i) tree[i] += 1;
      seen += ends.length;
    }
  }
  return total;
}

// Gives every cell a height on the page near its neighbours', in the order found.
function straighten(columns) {
  for (const column of columns) settle(column, column.map(() => 0));
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const sides = sweep >= SWEEPS - 4 ? ["left", "right"] : [sweep % 2 ? "right" : "left"];
    for (const column of sweep % 2 ? [...columns].reverse() : columns) {
      settle(column, column.map((cell) => mean(sides.flatMap((side) => cell[side].map((n) => n.y)), cell.y)));
    }
  }
  for (const column of columns) for (const cell of column) cell.y = Math.round(cell.y);
}

// The places nearest to the wishes (least squares) that keep order and distance: pool adjacent violators.
function settle(column, wishes) {
  const offsets = [];
  const pools = [];
  column.forEach((cell, i) => {
    const above = column[i - 1];
    offsets.push(i === 0 ? 0 : offsets[i - 1] + (above.height + cell.height) / 2 + (above.lane || cell.lane ? LANE : GAP));
    let pool = { sum: wishes[i] - offsets[i], count: 1 };
    while (pools.length && pools.at(-1).sum / pools.at(-1).count >= pool.sum / pool.count) {
      const last = pools.pop();
      pool = { sum: pool.sum + last.sum, count: pool.count + last.count };
    }
    pools.push(pool);
  });
  let i = 0;
  for (const pool of pools) {
    for (let n = 0; n < pool.count; n += 1, i += 1) column[i].y = pool.sum / pool.count + offsets[i];
  }
}

// Places only what is new: one layer after its callers, near its neighbours, where nothing stands yet.
function extend(nodes, edges, previous) {
  const height = heights(nodes);
  const places = new Map();
  for (const { name } of nodes) if (previous.places.has(name)) places.set(name, previous.places.get(name));
  const waiting = nodes.filter((node) => !places.has(node.name));
  while (waiting.length) {
    const next = Math.max(0, waiting.findIndex((node) => edges.some((e) => e.destination === node.name && places.has(e.source))));
    const [{ name }] = waiting.splice(next, 1);
    const callers = edges.filter((e) => e.destination === name && places.has(e.source)).map((e) => places.get(e.source));
    const callees = edges.filter((e) => e.source === name && places.has(e.destination)).map((e) => places.get(e.destination));
    const layer = callers.length ? Math.max(...callers.map((p) => p.layer)) + 1 : callees.length ? Math.max(0, Math.min(...callees.map((p) => p.layer)) - 1) : 0;
    const wish = mean([...callers, ...callees].map((p) => p.y), 0);
    const column = [...places.values()].filter((p) => p.layer === layer);
    places.set(name, { layer, y: freeSlot(column, wish, height.get(name)), height: height.get(name) });
  }
  const bends = new Map();
  for (const e of edges) {
    const kept = previous.bends.get(edgeKey(e));
    if (kept) bends.set(edgeKey(e), kept);
  }
  return { places, bends };
}

function freeSlot(column, wish, height) {
  const free = (y) => column.every((p) => Math.abs(p.y - y) >= (p.height + height) / 2 + GAP);
  // Each box blocks fewer than 20 steps, so a free one is always within reach.
  for (let step = 0; step <= 20 * (column.length + 1); step += 1) {
    for (const y of [wish + step * 8, wish - step * 8]) if (free(y)) return Math.round(y);
  }
  return Math.round(wish);
}

function mean(values, otherwise) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : otherwise;
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
