// Elements and numbers. Whatever comes from the data becomes a text node: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";
const KNOWN = new Set(["value", "checked", "disabled", "selected", "open"]);

function filled(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (KNOWN.has(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export const h = (tag, props, ...children) =>
  filled(document.createElement(tag), props, children);

export const svg = (tag, props, ...children) =>
  filled(document.createElementNS(SVG, tag), props, children);

export function fill(node, ...children) {
  node.replaceChildren();
  return filled(node, null, children);
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
export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  while (n >= 1000 && place < units.length - 1) {
    n /= 1000;
    place += 1;
  }
  return `${place ? n.toFixed(1) : n} ${units[place]}`;
}

export const KINDS = { hard: "hard", semi_hard: "semi-hard", easy: "easy" };

// What each kind means, for people.
export const KIND_MEANS = {
  hard: "the negative is at least as near to the anchor as the positive",
  semi_hard: "the negative is farther than the positive, but by less than the margin",
  easy: "the negative is farther than the positive by the margin or more",
};

export const kindTag = (kind) =>
  h("span", { class: `kind ${kind}`, title: KIND_MEANS[kind] }, KINDS[kind] || kind);

export function empty(title, said, ...more) {
  return h("div", { class: "empty" }, h("p", { class: "big" }, title), h("p", {}, said), ...more);
}

export function fault(error, again) {
  return h(
    "div",
    { class: "empty fault", role: "alert" },
    h("p", { class: "big" }, "That did not work"),
    h("p", {}, error.message || "The server does not answer."),
    (error.fields || []).map((line) => h("p", { class: "soft" }, line)),
    again && h("button", { type: "button", onclick: again }, "Try again"),
  );
}

let timers = 0;
export const newId = (prefix) => `${prefix}-${(timers += 1)}`;

// `work` some time after the last call.
export function later(work, wait = 250) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...args), wait);
  };
}

export const spin = (said = "Loading") => h("p", { class: "wait", role: "status" }, `${said} …`);
