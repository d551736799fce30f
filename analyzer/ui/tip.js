// A small box beside the pointer.

import { h } from "./dom.js";

export class Tip {
  constructor(element) {
    this.element = element;
  }

  show([title, ...lines], event) {
    this.element.replaceChildren(h("b", null, title), ...lines.map((line) => h("span", null, line)));
    this.element.hidden = false;
    this.move(event);
  }

  move(event) {
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const x = event.clientX + 16 + width > innerWidth ? event.clientX - width - 12 : event.clientX + 16;
    const y = event.clientY + 16 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 16;
    this.element.style.transform = `translate(${Math.max(4, x)}px, ${Math.max(4, y)}px)`;
  }

  hide() {
    this.element.hidden = true;
  }
}
