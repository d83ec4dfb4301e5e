// Requests to the server. Every response names its version; listeners are notified when it changes.

export const served = { version: 0, index: null, content: null, items: 0 };
const listeners = { version: new Set(), unauthorized: new Set() };
export const on = (name, listener) => listeners[name].add(listener);
const notify = (name, ...args) => listeners[name].forEach((listener) => listener(...args));

export class RequestError extends Error {
  constructor(status, detail, fields) {
    super(detail);
    this.status = status;
    this.fields = fields || [];
  }
}

// Requests of a view are aborted when another view is shown.
let controller = new AbortController();
export function abortRequests() {
  controller.abort();
  controller = new AbortController();
}
export const isAborted = (error) => error.name === "AbortError";

export function query(params) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(params || {})) {
    for (const part of Array.isArray(value) ? value : [value]) {
      if (part !== null && part !== undefined && part !== "" && part !== false) search.append(name, part);
    }
  }
  const text = search.toString();
  return text ? `?${text}` : "";
}

// keep: do not abort the request with the view.
export async function fetchJson(path, { params, body, method, keep } = {}) {
  const options = { method: method || (body ? "POST" : "GET"), credentials: "same-origin" };
  if (body instanceof FormData) options.body = body;
  else if (body) {
    options.body = JSON.stringify(body);
    options.headers = { "content-type": "application/json" };
  }
  if (!keep) options.signal = controller.signal;
  let response;
  try {
    response = await fetch(path + query(params), options);
  } catch (error) {
    if (isAborted(error)) throw error;
    throw new RequestError(0, "The server does not respond. Is `remine serve` still running?");
  }
  if (response.status === 204) return null;
  const content = await response.json().catch(() => ({}));
  if (!response.ok) {
    if (response.status === 401) notify("unauthorized");
    throw new RequestError(response.status, sentence(content.detail || response.statusText), content.fields);
  }
  noteVersion(Number(response.headers.get("x-remine-version")) || 0);
  return content;
}

const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + "." : "No response.");

function noteVersion(version) {
  if (!version || version === served.version) return;
  const previous = served.version;
  served.version = version;
  notify("version", version, previous);
}

// Load the card of the served index; the kind of content decides how items are shown.
export async function loadIndex() {
  const card = await fetchJson("index", { keep: true });
  Object.assign(served, { index: card, content: card.content, items: card.items });
  return card;
}

export async function checkHealth() {
  const health = await fetchJson("health", { keep: true });
  noteVersion(health.version);
  return health;
}

export const isPicture = () => served.content === "image" || served.content === "path";
export const isText = () => served.content === "text";
export const hasTextIds = () => served.index.ids === "texts";

// The address of a picture; the path of an address cannot hold every text.
export const thumbnailOf = (id) =>
  hasTextIds() ? `thumbnail?id=${encodeURIComponent(id)}` : `items/${id}/thumbnail`;

const itemCache = new Map();

// Items by id, fetched in batches and cached per version.
export async function itemsOf(ids) {
  const version = served.version;
  const missing = [...new Set(ids)].filter((id) => !itemCache.has(`${version}/${id}`));
  for (let start = 0; start < missing.length; start += 200) {
    const page = await fetchJson("items", { params: { id: missing.slice(start, start + 200), limit: 200 } });
    if (itemCache.size > 5000) itemCache.clear();
    for (const item of page.items) itemCache.set(`${version}/${item.id}`, item);
  }
  return new Map(ids.map((id) => [id, itemCache.get(`${version}/${id}`)]));
}
