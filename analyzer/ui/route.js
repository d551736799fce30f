// The course of edges between boxes. Pure; all lengths in graph coordinates.

import { edgeKey } from "./layout.js";

const ARROW = 7;

// boxes: Map name → {x, y, width, height} (x, y = the middle), bendsAt: edge → [{x, y}].
// Returns Map edgeKey → {path, arrow, middle: {x, y}, back}.
export function routes(edges, boxes, bendsAt) {
  const drawn = edges.filter((e) => boxes.has(e.source) && boxes.has(e.destination));
  const forward = drawn.filter((e) => isForward(boxes.get(e.source), boxes.get(e.destination)));
  const starts = ports(forward, boxes, "source", "destination", bendsAt);
  const ends = ports(forward, boxes, "destination", "source", bendsAt);
  const out = new Map();
  for (const edge of drawn) {
    const from = boxes.get(edge.source);
    const to = boxes.get(edge.destination);
    const key = edgeKey(edge);
    if (edge.source === edge.destination) out.set(key, loop(from));
    else if (!isForward(from, to)) out.set(key, backward(from, to, boxes));
    else out.set(key, curve(from, starts.get(key), to, ends.get(key), bendsAt(edge)));
  }
  return out;
}

const isForward = (from, to) => from.x < to.x;

// Spreads the edges of one side of a box over its height, in the order of where they go.
function ports(edges, boxes, near, far, bendsAt) {
  const groups = new Map();
  for (const edge of edges) {
    const bends = bendsAt(edge);
    const towards = (near === "source" ? bends[0] : bends.at(-1))?.y ?? boxes.get(edge[far]).y;
    const group = groups.get(edge[near]) ?? [];
    group.push({ key: edgeKey(edge), towards });
    groups.set(edge[near], group);
  }
  const out = new Map();
  for (const [name, group] of groups) {
    const { y, height } = boxes.get(name);
    group.sort((a, b) => a.towards - b.towards || (a.key < b.key ? -1 : 1));
    const step = Math.min(8, (height - 16) / Math.max(1, group.length - 1));
    group.forEach((port, i) => out.set(port.key, y + (i - (group.length - 1) / 2) * step));
  }
  return out;
}

function curve(from, startY, to, endY, bends) {
  const points = [{ x: from.x + from.width / 2, y: startY }];
  for (const bend of bends) {
    // A lane runs level past the boxes of its layer.
    points.push({ x: bend.x - from.width / 2, y: bend.y }, { x: bend.x + from.width / 2, y: bend.y });
  }
  points.push({ x: to.x - to.width / 2 - ARROW, y: endY });
  let path = `M${r(points[0].x)},${r(points[0].y)}`;
  for (let i = 1; i < points.length; i += 1) {
    const [a, b] = [points[i - 1], points[i]];
    const half = (b.x - a.x) / 2;
    path += a.y === b.y ? `L${r(b.x)},${r(b.y)}` : `C${r(a.x + half)},${r(a.y)} ${r(b.x - half)},${r(b.y)} ${r(b.x)},${r(b.y)}`;
  }
  const tip = { x: to.x - to.width / 2, y: endY };
  // The label stands before the last box, where edges that leave together have parted.
  const [a, b] = points.slice(-2);
  const middle = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  return { path, arrow: arrow(tip, 1, 0), middle, back: false };
}

// An edge against the flow leaves and enters above or below the boxes, where fewer of them are in its way.
function backward(from, to, boxes) {
  const span = Math.abs(from.x - to.x);
  if (span === 0) return sideways(from, to);
  const tries = [1, -1].flatMap((side) => [24, 56].map((sag) => arch(from, to, side, sag + span / 6)));
  const others = [...boxes.values()].filter((box) => box !== from && box !== to);
  const hidden = tries.map((course) => others.filter((box) => course.points.some((p) => within(p, box))).length);
  const { path, tip, side, middle } = tries[hidden.indexOf(Math.min(...hidden))];
  return { path, arrow: arrow(tip, 0, -side), middle, back: true };
}

// side: 1 = below the boxes, -1 = above them.
function arch(from, to, side, sag) {
  const start = { x: from.x - 8, y: from.y + (side * from.height) / 2 };
  const tip = { x: to.x + 8, y: to.y + (side * to.height) / 2 };
  const far = side * Math.max(side * start.y, side * tip.y) + side * sag;
  const path = `M${r(start.x)},${r(start.y)}C${r(start.x)},${r(far)} ${r(tip.x)},${r(far)} ${r(tip.x)},${r(tip.y + side * ARROW)}`;
  const points = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9].map((t) => {
    const [outer, inner] = [(1 - t) ** 3 + 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t ** 2 + t ** 3];
    const bend = 3 * (1 - t) * t;
    return { x: start.x * outer + tip.x * inner, y: start.y * (1 - t) ** 3 + far * bend + tip.y * t ** 3 };
  });
  return { path, tip, side, points, middle: points[4] };
}

const within = (point, box) => Math.abs(point.x - box.x) <= box.width / 2 && Math.abs(point.y - box.y) <= box.height / 2;

// Between boxes of one layer: around the right side.
function sideways(from, to) {
  const start = { x: from.x + from.width / 2, y: from.y };
  const tip = { x: to.x + to.width / 2, y: to.y + (from.y > to.y ? 6 : -6) };
  const out = start.x + 28;
  const path = `M${r(start.x)},${r(start.y)}C${r(out)},${r(start.y)} ${r(out)},${r(tip.y)} ${r(tip.x + ARROW)},${r(tip.y)}`;
  return { path, arrow: arrow(tip, -1, 0), middle: { x: out - 7, y: (start.y + tip.y) / 2 }, back: true };
}

function loop(box) {
  const x = box.x + box.width / 2 - 16;
  const y = box.y - box.height / 2;
  const tip = { x: x + 8, y };
  return { path: `M${r(x - 10)},${r(y)}C${r(x - 10)},${r(y - 22)} ${r(x + 8)},${r(y - 22)} ${r(x + 8)},${r(y - ARROW)}`, arrow: arrow(tip, 0, 1), middle: { x, y: y - 16 }, back: true };
}

// A triangle with its tip at `tip`, pointing along (dx, dy).
function arrow(tip, dx, dy) {
  const [bx, by] = [tip.x - dx * ARROW, tip.y - dy * ARROW];
  const half = ARROW / 2;
  return `M${r(tip.x)},${r(tip.y)}L${r(bx - dy * half)},${r(by + dx * half)}L${r(bx + dy * half)},${r(by - dx * half)}Z`;
}

const r = (value) => Math.round(value * 10) / 10;
