// Questions to the server. Every answer names its version; a change of it is told to who listens.

export const known = { version: 0, index: null, content: null, items: 0 };
const listeners = { version: new Set(), refused: new Set() };
export const on = (name, listener) => listeners[name].add(listener);
const tell = (name, ...args) => listeners[name].forEach((listener) => listener(...args));

export class Refused extends Error {
  constructor(status, detail, fields) {
    super(detail);
    this.status = status;
    this.fields = fields || [];
  }
}

// Everything a view asks ends when the view does.
let controller = new AbortController();
export function leave() {
  controller.abort();
  controller = new AbortController();
}
export const aborted = (error) => error.name === "AbortError";

export function query(params) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(params || {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "" && one !== false) search.append(name, one);
    }
  }
  const text = search.toString();
  return text ? `?${text}` : "";
}

export async function ask(path, { params, body, method, keep } = {}) {
  const options = { method: method || (body ? "POST" : "GET"), credentials: "same-origin" };
  if (body instanceof FormData) options.body = body;
  else if (body) {
    options.body = JSON.stringify(body);
    options.headers = { "content-type": "application/json" };
  }
  if (!keep) options.signal = controller.signal;
  let answer;
  try {
    answer = await fetch(path + query(params), options);
  } catch (error) {
    if (aborted(error)) throw error;
    throw new Refused(0, "The server does not answer. Is `remine serve` still running?");
  }
  if (answer.status === 204) return null;
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    if (answer.status === 401) tell("refused");
    throw new Refused(answer.status, sentence(found.detail || answer.statusText), found.fields);
  }
  noteVersion(Number(answer.headers.get("x-remine-version")) || 0);
  return found;
}

const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + "." : "No answer.");

function noteVersion(version) {
  if (!version || version === known.version) return;
  const before = known.version;
  known.version = version;
  tell("version", version, before);
}

// What is served: its kind of content decides how items are shown.
export async function learn() {
  const found = await ask("index", { keep: true });
  Object.assign(known, { index: found, content: found.content, items: found.items });
  return found;
}

export async function pulse() {
  const found = await ask("health", { keep: true });
  noteVersion(found.version);
  return found;
}

export const isPicture = () => known.content === "image" || known.content === "path";
export const isText = () => known.content === "text";

const texts = new Map();

// Items by id; asked for together, kept for the version.
export async function itemsOf(ids) {
  const version = known.version;
  const missing = [...new Set(ids)].filter((id) => !texts.has(`${version}/${id}`));
  for (let start = 0; start < missing.length; start += 200) {
    const found = await ask("items", { params: { id: missing.slice(start, start + 200), limit: 200 } });
    if (texts.size > 5000) texts.clear();
    for (const item of found.items) texts.set(`${version}/${item.id}`, item);
  }
  return new Map(ids.map((id) => [id, texts.get(`${version}/${id}`)]));
}
