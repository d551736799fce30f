// Builds elements. Text only ever becomes a text node: what services call themselves is untrusted.

const SVG = "http://www.w3.org/2000/svg";

// An HTML element; `on…` attributes are listeners, `true` is an empty attribute, null and false leave it out;
// `aria-…` says true and false in words.
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// The same for SVG.
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    const isState = name.startsWith("aria-") && typeof value === "boolean";
    if (value == null || (value === false && !isState)) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true && !isState ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child == null || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child);
  }
}

// Replaces what is in `container`; the focus stays on the element with the same `data-key`.
export function replace(container, ...children) {
  const active = document.activeElement;
  const key = container.contains(active) ? active.dataset.key : undefined;
  container.replaceChildren();
  append(container, children);
  if (key === undefined) return;
  for (const element of container.querySelectorAll("[data-key]")) {
    if (element.dataset.key === key) {
      element.focus({ preventScroll: true });
      return;
    }
  }
}

// Whether the reader has marked text inside `element`: replacing it would take the mark away.
export function hasSelectedText(element) {
  const selection = document.getSelection();
  return Boolean(selection && !selection.isCollapsed && element.contains(selection.anchorNode));
}
