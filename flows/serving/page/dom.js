// Elements and numbers. Data becomes text nodes: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "open"]);

function build(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export const h = (tag, props, ...children) =>
  build(document.createElement(tag), props, children);

export const svg = (tag, props, ...children) =>
  build(document.createElementNS(SVG, tag), props, children);

export function fill(node, ...children) {
  node.replaceChildren();
  return build(node, null, children);
}

const minus = (text) => text.replace("-", "−");
const groups = new Intl.NumberFormat("en");
export const count = (n) => (n === null || n === undefined ? "–" : groups.format(n));
export const num = (x, digits = 3) =>
  x === null || x === undefined || !Number.isFinite(x) ? "–" : minus(x.toFixed(digits));
export const signed = (x, digits = 3) =>
  x === null || x === undefined ? "–" : (x > 0 ? "+" : x < 0 ? "−" : "±") + Math.abs(x).toFixed(digits);
export const percent = (x, digits = 1) =>
  x === null || x === undefined ? "–" : minus(`${(100 * x).toFixed(digits)} %`);
export const plural = (n, singular, pluralForm = `${singular}s`) => `${count(n)} ${n === 1 ? singular : pluralForm}`;

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (n >= 1000 && power < units.length - 1) {
    n /= 1000;
    power += 1;
  }
  return `${power ? n.toFixed(1) : n} ${units[power]}`;
}

export const KINDS = { hard: "hard", semi_hard: "semi-hard", easy: "easy" };

// The meaning of each kind, in words.
export const KIND_MEANS = {
  hard: "the negative is at least as near to the anchor as the positive",
  semi_hard: "the negative is farther than the positive, but by less than the margin",
  easy: "the negative is farther than the positive by the margin or more",
};

export const kindTag = (kind) =>
  h("span", { class: `kind ${kind}`, title: KIND_MEANS[kind] }, KINDS[kind] || kind);

export function emptyBox(title, text, ...extra) {
  return h("div", { class: "empty" }, h("p", { class: "big" }, title), h("p", {}, text), ...extra);
}

export function errorBox(error, retry) {
  return h(
    "div",
    { class: "empty fault", role: "alert" },
    h("p", { class: "big" }, "The request failed"),
    h("p", {}, error.message || "The server does not respond."),
    (error.fields || []).map((line) => h("p", { class: "soft" }, line)),
    retry && h("button", { type: "button", onclick: retry }, "Try again"),
  );
}

let idCount = 0;
export const uniqueId = (prefix) => `${prefix}-${(idCount += 1)}`;

// Call `work` once, `wait` milliseconds after the last call.
export function debounce(work, wait = 250) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...args), wait);
  };
}

export const loading = () => h("p", { class: "wait", role: "status" }, "Loading …");
