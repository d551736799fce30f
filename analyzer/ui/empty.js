// What a newcomer sees: three ways to get traffic, ready to copy.

import { h, replace } from "./dom.js";
import { plural } from "./format.js";

export function drawEmpty(container, status, window) {
  // Drawn again only when the count of sidecars changes, so that a command can be marked and copied in peace.
  const proxies = status?.proxies ?? 0;
  const shown = `${proxies} ${window ?? ""}`;
  if (container.dataset.shown === shown) return;
  container.dataset.shown = shown;
  if (window) return replace(container, h("h2", null, `No traffic in the last ${window}`), h("p", null, "A window begins with the last ten seconds that are complete. Choose a longer one above."));
  replace(container,
    h("h2", null, "No traffic yet"),
    h("p", null, proxies
      ? `${plural(proxies, "sidecar")} reporting, but no request has passed yet. Send one through the sidecar's inbound port; it appears here within seconds.`
      : "Services appear here by themselves, within seconds of their first request. Start with one of these:"),
    command("See it work: a small shop with every problem planted", "couplet demo"),
    command("Point a sidecar here, beside a service that already runs", `couplet proxy --service orders --app 127.0.0.1:8080 --analyzer ${location.origin}`),
    command("Or start a service with its sidecar", `couplet run --service orders --port 8080 --analyzer ${location.origin} -- python app.py`));
}

function command(title, text) {
  const copy = h("button", { class: "button", type: "button", "data-key": `copy ${title}`, "aria-label": `Copy: ${text}`, onclick: () => toClipboard(text, copy) }, "Copy");
  return h("div", { class: "command" }, h("h3", null, title), h("div", { class: "command-line" }, h("code", null, text), copy));
}

async function toClipboard(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it";
    getSelection().selectAllChildren(button.previousElementSibling);
  }
  setTimeout(() => (button.textContent = "Copy"), 1_500);
}
