// Talks to the analyzer: fetches JSON, listens to its events, and says how the connection is doing.

const TIMEOUT_MS = 10_000;
const AT_MOST_EVERY_MS = 1_000;
const POLL_MS = 5_000;
const SLOWEST_RETRY_MS = 15_000;

// GETs `path` as JSON; an error carries the analyzer's own text where there is one.
export async function get(path) {
  const response = await fetch(`api/v1/${path}`, { headers: { accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    const error = new Error(body.error ?? `the analyzer answered ${response.status}`);
    error.status = response.status;
    throw error;
  }
  return response.json();
}

// The sliding windows that the analyzer keeps; null = everything.
export const WINDOWS = [[null, "all"], ["1m", "last minute"], ["15m", "last 15 minutes"], ["1h", "last hour"], ["24h", "last 24 hours"]];

// `path` for a window, or for everything.
const within = (path, window) => (window ? `${path}${path.includes("?") ? "&" : "?"}window=${encodeURIComponent(window)}` : path);

// The calling-context tree below an entry. Asks by the entry's id where the document gives one, else by its name,
// and for everything when the analyzer does not know the name.
export async function paths(entry, window) {
  const id = entry.id ?? `${entry.service} ${entry.endpoint}`;
  try {
    return await get(within(`paths?entry=${encodeURIComponent(id)}`, window));
  } catch (error) {
    if (error.status !== 404 && error.status !== 400) throw error;
    return get(within("paths", window));
  }
}

// Keeps the newest document at hand. `hear` is called with {doc}, {status}, {link} and {staleSince}.
// While the page is hidden it neither fetches nor holds a connection.
export class Feed {
  // `window` says which sliding window is wanted at present.
  constructor(hear, window) {
    this.hear = hear;
    this.window = window;
    this.source = null;
    this.retryMs = 1_000;
    this.fetching = false;
    this.again = false;
    this.lastFetch = -Infinity;
    this.timer = null;
    this.reconnect = null;
    this.staleSince = null;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pause() : this.resume()));
    addEventListener("pagehide", () => this.pause());
    addEventListener("pageshow", () => this.resume());
    setInterval(() => this.poll(), POLL_MS);
  }

  resume() {
    if (document.hidden) return;
    this.listen();
    this.refresh();
    this.poll();
  }

  pause() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.reconnect);
  }

  listen() {
    if (this.source) return;
    const source = new EventSource("api/v1/events");
    this.source = source;
    source.addEventListener("open", () => {
      this.retryMs = 1_000;
      this.hear({ link: "live" });
      this.refresh();
    });
    source.addEventListener("snapshot", () => this.refresh());
    source.addEventListener("error", () => {
      if (this.source !== source) return;
      this.hear({ link: "reconnecting" });
      // The browser comes back by itself after a broken connection, but gives up after an answer such as 503.
      if (source.readyState !== EventSource.CLOSED) return;
      this.source = null;
      clearTimeout(this.reconnect);
      this.reconnect = setTimeout(() => !document.hidden && this.listen(), this.retryMs);
      this.retryMs = Math.min(this.retryMs * 2, SLOWEST_RETRY_MS);
    });
  }

  // Without events the page still follows, only slower; the status line has no event of its own.
  poll() {
    if (document.hidden) return;
    if (this.source?.readyState !== EventSource.OPEN) this.refresh();
    get("status").then((status) => this.hear({ status }), () => {});
  }

  // Fetches the document, at most once per second; a wish in between is remembered.
  refresh() {
    if (this.fetching) {
      this.again = true;
      return;
    }
    if (this.timer !== null || document.hidden) return;
    const wait = Math.max(0, this.lastFetch + AT_MOST_EVERY_MS - performance.now());
    this.timer = setTimeout(() => this.fetchNow(), wait);
  }

  async fetchNow() {
    this.timer = null;
    this.fetching = true;
    this.lastFetch = performance.now();
    try {
      const window = this.window();
      const doc = await get(within("document", window));
      // A window that was chosen meanwhile is fetched next; this is the answer to another question.
      if (window !== this.window()) this.again = true;
      this.staleSince = null;
      this.hear({ doc, shown: window, staleSince: null, problem: null, receivedAt: performance.now() });
    } catch (error) {
      this.hear({ staleSince: this.staleSince ??= new Date(), problem: error.message });
    } finally {
      this.fetching = false;
    }
    if (this.again) {
      this.again = false;
      this.refresh();
    }
  }
}
