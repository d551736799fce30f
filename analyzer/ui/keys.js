// The keyboard: single keys, none of them while something is typed or held with a modifier.

export function listenToKeys(does) {
  const keys = {
    j: () => does.walk(1),
    k: () => does.walk(-1),
    ArrowDown: () => does.walk(1),
    ArrowUp: () => does.walk(-1),
    g: () => does.tab("graph"),
    c: () => does.tab("chains"),
    t: does.theme,
    "+": () => does.zoom(1.25),
    "=": () => does.zoom(1.25),
    "-": () => does.zoom(1 / 1.25),
    0: () => does.zoom(null),
    "/": does.filter,
    "?": does.help,
    Escape: does.escape,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const target = event.target;
    const typing = target.matches("input, select, textarea");
    if (typing && event.key !== "Escape" && !(target.id === "filter" && /^Arrow(Up|Down)$/.test(event.key))) return;
    // Arrows scroll where there is something to scroll, and walk the findings elsewhere.
    if (/^Arrow/.test(event.key) && target.closest("#details, .icicle")) return;
    if (event.key === "Enter") {
      if (target.matches("body, .card, #main")) {
        // The card's own click would take the selection back.
        if (target.matches(".card:not(.on)")) return;
        event.preventDefault();
        does.open();
      }
      return;
    }
    const go = keys[event.key];
    if (!go) return;
    event.preventDefault();
    go();
  });
}
