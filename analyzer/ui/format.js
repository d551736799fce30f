// Figures as people read them. Everything here is pure.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const NONE = "–";
// A figure and its unit stay on one line.
const TIED = "\u00a0";
// Quantiles and thresholds in the order in which they grow; other names follow.
const GROWING = ["count", "mean", "p50", "p95", "p99", "max", "info", "warn", "critical"];

// 7, 4.5, 1,204
export function number(value) {
  if (!Number.isFinite(value)) return NONE;
  if (Number.isInteger(value) || Math.abs(value) >= 100) return whole.format(value);
  return trim(value.toFixed(Math.abs(value) < 1 ? 2 : 1));
}

// 940, 1.2k, 34k, 5.1M
export function compact(value) {
  if (!Number.isFinite(value)) return NONE;
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(value) >= size) return trim((value / size).toFixed(value / size < 10 ? 1 : 0)) + unit;
  }
  return number(value);
}

// 512 B, 4.5 kB, 1.2 MB
export function bytes(count) {
  if (!Number.isFinite(count)) return NONE;
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (count >= size) return trim((count / size).toFixed(count / size < 10 ? 1 : 0)) + TIED + unit;
  }
  return number(count) + TIED + "B";
}

// Seconds as 640 µs, 12.3 ms, 1.24 s, 3 min 20 s
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  if (seconds === 0) return `0${TIED}ms`;
  if (seconds < 0.001) return `${significant(seconds * 1e6)}${TIED}µs`;
  if (seconds < 1) return `${significant(seconds * 1e3)}${TIED}ms`;
  if (seconds < 60) return `${significant(seconds)}${TIED}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)}${TIED}s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

// A share 0..1 as 97 %; never rounds a part to "0 %" or to "100 %".
export function percent(share) {
  if (!Number.isFinite(share)) return NONE;
  const value = share * 100;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  if (value > 99.9 && value < 100) return "> 99.9 %";
  if (value !== 0 && (value < 1 || (value > 99 && value < 100))) return `${trim(value.toFixed(1))}${TIED}%`;
  return `${value.toFixed(0)}${TIED}%`;
}

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

// "p50 4 · p95 6 · max 7" of a distribution; `unit` formats one figure.
export function distribution(stats, unit = number) {
  if (!stats || !Object.keys(stats).length) return NONE;
  return ["p50", "p95", "p99", "max"].filter((key) => Number.isFinite(stats[key])).map((key) => `${key}${TIED}${unit(stats[key])}`).join(" · ") || NONE;
}

export function clock(date) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

// The operands of a finding's evidence as rows [name, text, kind], nested names joined. What is shown elsewhere is left out.
export function operands(evidence) {
  const rows = [];
  const walk = (name, value, unit) => {
    const own = unitOf(name) ?? unit;
    const said = name.replace(/\bseconds\b/, "time");
    if (value === null || value === undefined) return;
    if (Array.isArray(value)) {
      rows.push([said, value.map((item) => (typeof item === "object" && item ? label(item) : scalar(item, own))).join(", ") || NONE]);
    } else if (typeof value === "object") {
      if (namesThings(value)) rows.push([said, ""], ...Object.entries(value).map(([key, item]) => [key, scalar(item, own), "endpoint"]));
      else if (isFlat(value)) rows.push([said, inOrder(value).map(([key, item]) => `${words(key)}${TIED}${scalar(item, key === "count" ? number : (unitOf(words(key)) ?? own))}`).join(" · ")]);
      else for (const [key, item] of Object.entries(value)) walk(`${name} ${words(key)}`, item, own);
    } else {
      rows.push([said, scalar(value, own)]);
    }
  };
  for (const [key, value] of Object.entries(evidence ?? {})) {
    if (key !== "formula" && key !== "linked" && key !== "n") walk(words(key), value);
  }
  return rows.slice(0, 60);
}

function inOrder(object) {
  const rank = (key) => (GROWING.includes(key) ? GROWING.indexOf(key) : GROWING.length);
  return Object.entries(object).sort(([a], [b]) => rank(a) - rank(b));
}

// Whether the keys are endpoints or services, not names of figures: each then gets a row of its own.
function namesThings(object) {
  return isFlat(object) && Object.keys(object).some((key) => !/^[a-z0-9_]+$/.test(key));
}

function isFlat(object) {
  return Object.values(object).every((value) => value === null || typeof value !== "object");
}

function label(object) {
  return [object.service, object.endpoint].filter(Boolean).join(" ") || JSON.stringify(object);
}

function scalar(value, unit) {
  if (typeof value === "number") return (unit ?? number)(value);
  return value === null ? NONE : String(value);
}

function unitOf(name) {
  if (/seconds|duration|time$/.test(name)) return duration;
  if (/share|coverage|ratio|rate$|potential$/.test(name)) return percent;
  return undefined;
}

function words(key) {
  // Only names of operands are turned into words, never names of services and endpoints.
  return /^[a-z0-9_]+$/.test(key) ? key.replaceAll("_", " ") : key;
}

function significant(value) {
  return trim(value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0));
}

function trim(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
