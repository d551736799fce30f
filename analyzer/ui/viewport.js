// Pan and zoom of one SVG group. `at` = the graph point in the middle and the scale; null follows the whole drawing.

const SMALLEST = 0.08;
const LARGEST = 3;
const LARGEST_FIT = 1.25;
const MARGIN = 20;
const LEGEND = 36;

export class Viewport {
  // `moved(at)` is called when the reader has moved the drawing; `at` is text "x,y,scale", or null for fit.
  constructor(svg, group, moved) {
    Object.assign(this, { svg, group, moved, bounds: null, at: null, drag: null, dragged: false, settling: null });
    svg.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    svg.addEventListener("pointerdown", (event) => this.onDown(event));
    svg.addEventListener("pointermove", (event) => this.onMove(event));
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => this.onUp());
    // A drag that ends on a box is no click on it.
    svg.addEventListener("click", (event) => this.dragged && event.stopPropagation(), { capture: true });
    new ResizeObserver(() => this.apply()).observe(svg);
  }

  show(bounds, text) {
    this.bounds = bounds;
    // What the reader is just doing is newer than what the URL says.
    if (!this.drag && this.settling === null) this.at = parse(text);
    this.apply();
  }

  size() {
    return { width: this.svg.clientWidth || 1, height: this.svg.clientHeight || 1 };
  }

  // What is in force: the reader's choice, or the scale at which all of it is visible.
  current() {
    if (this.at) return this.at;
    const { width, height } = this.size();
    const b = this.bounds ?? { left: 0, top: 0, right: 1, bottom: 1 };
    const fit = Math.min((width - 2 * MARGIN) / (b.right - b.left), (height - 2 * MARGIN - LEGEND) / (b.bottom - b.top));
    const k = clamp(fit, SMALLEST, LARGEST_FIT);
    return { x: (b.left + b.right) / 2, y: (b.top + b.bottom) / 2 + LEGEND / 2 / k, k };
  }

  apply() {
    const { x, y, k } = this.current();
    const { width, height } = this.size();
    this.group.setAttribute("transform", `translate(${width / 2 - x * k},${height / 2 - y * k}) scale(${k})`);
    this.svg.classList.toggle("far", k < 0.5);
  }

  // Zooms by `factor` around a point of the screen (default: the middle); null fits.
  zoom(factor, point) {
    if (factor === null) {
      this.at = null;
    } else {
      const { width, height } = this.size();
      const { x, y, k } = this.current();
      const dx = (point?.x ?? width / 2) - width / 2;
      const dy = (point?.y ?? height / 2) - height / 2;
      const scale = clamp(k * factor, SMALLEST, LARGEST);
      this.at = { x: x + dx / k - dx / scale, y: y + dy / k - dy / scale, k: scale };
    }
    this.apply();
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.tell(), 200);
  }

  onWheel(event) {
    // On a narrow page the wheel scrolls past the drawing, unless the reader pinches or holds Ctrl.
    if (!event.ctrlKey && innerWidth < 900) return;
    event.preventDefault();
    const box = this.svg.getBoundingClientRect();
    const pixels = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    this.zoom(Math.exp(-clamp(pixels, -120, 120) / 400), { x: event.clientX - box.left, y: event.clientY - box.top });
  }

  onDown(event) {
    this.dragged = false;
    if (event.button === 0 && event.isPrimary) this.drag = { x: event.clientX, y: event.clientY, from: this.current() };
  }

  onMove(event) {
    if (!this.drag) return;
    const dx = event.clientX - this.drag.x;
    const dy = event.clientY - this.drag.y;
    if (!this.dragged && Math.hypot(dx, dy) < 4) return;
    if (!this.dragged) this.svg.setPointerCapture(event.pointerId);
    this.dragged = true;
    const { x, y, k } = this.drag.from;
    this.at = { x: x - dx / k, y: y - dy / k, k };
    this.svg.classList.add("dragging");
    this.apply();
  }

  onUp() {
    if (this.drag && this.dragged) this.tell();
    this.drag = null;
    this.svg.classList.remove("dragging");
  }

  tell() {
    clearTimeout(this.settling);
    this.settling = null;
    this.moved(this.at && `${this.at.x.toFixed(0)},${this.at.y.toFixed(0)},${this.at.k.toFixed(3)}`);
  }
}

function parse(text) {
  const [x, y, k] = (text ?? "").split(",").map(Number);
  return text && [x, y, k].every(Number.isFinite) && k > 0 ? { x, y, k: clamp(k, SMALLEST, LARGEST) } : null;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
