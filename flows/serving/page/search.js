// Search by a picture, a text or an id, and walk from neighbour to neighbour.

import { fetchJson, hasTextIds, isPicture, isText, served, thumbnailOf } from "./api.js";
import { itemFace, labelOf, tile } from "./cards.js";
import { count, emptyBox, fill, h, num, percent, plural } from "./dom.js";
import { openDrawingPad } from "./draw.js";
import { SPLITS, choice, flag, labelField, number, text } from "./fields.js";
import { go, link, withValues } from "./route.js";

const TRAIL = 12;
const pictures = []; // uploaded in this page; lost when it is reloaded

// A step of the walk as text: "i:7" an item, "t:..." a text, "p:0" an uploaded picture.
const stepOf = (params) =>
  params.has("id") ? `i:${params.get("id")}` : params.has("text") ? `t:${params.get("text")}`
    : params.has("picture") ? `p:${params.get("picture")}` : null;
const valuesOf = (step) =>
  ({ i: (v) => ({ id: v }), t: (v) => ({ text: v }), p: (v) => ({ picture: v }) })[step[0]](step.slice(2));
const NO_QUERY = { id: null, text: null, picture: null, focus: null };

export async function search(place, params) {
  const step = stepOf(params);
  const walk = (values) => withValues(params, { ...NO_QUERY, ...values, via: trail(params, step) });
  fill(place,
    h("div", { class: "ask" }, queryForm(params, walk), filters(params)),
    h("div", { class: "found" }, step ? await results(params, step, walk) : welcome(walk)));
  if (params.has("focus")) place.addEventListener("shown", () => place.querySelector("#q").focus());
}

const trail = (params, step) => [...params.getAll("via"), ...(step ? [step] : [])].slice(-TRAIL);

// Query ---------------------------------------------------------------------------------------

function queryForm(params, walk) {
  const placeholder = isText() ? "A text, or #id" : "An item's id";
  const field = h("input", { id: "q", type: "search", autocomplete: "off", placeholder, "aria-label": placeholder,
    value: params.get("text") || params.get("id") || "" });
  function send(event) {
    event.preventDefault();
    const value = field.value.trim();
    const id = idOf(value);
    if (id) go("search", walk({ id }));
    else if (isText() && value) go("search", walk({ text: value }));
    else field.setCustomValidity("An id is a whole number."), field.reportValidity();
  }
  field.addEventListener("input", () => field.setCustomValidity(""));
  return h("section", { class: "card", "aria-label": "Query" },
    isPicture() && dropZone(walk),
    h("form", { class: isText() ? "line long" : "line", role: "search", onsubmit: send }, field, h("button", { class: "main", type: "submit" }, "Search")),
    h("div", { class: "line" },
      h("button", { type: "button", id: "random", onclick: () => random(walk) }, "Random item"),
      isPicture() && h("button", { type: "button", onclick: () => openDrawingPad((blob) => searchPicture(blob, walk)) }, "Draw a picture")));
}

// The id in the field, or nothing. Where the items are texts, it is an id only after a #.
function idOf(value) {
  const hash = value.startsWith("#");
  if (isText() && !hash) return null;
  if (hasTextIds()) return isText() ? value.slice(1) : value;
  return value.match(/^#?(\d{1,18})$/)?.[1];
}

async function random(walk) {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const page = await fetchJson("items", { params: { offset: seed % Math.max(1, served.items), limit: 1 } });
  if (page.items.length) go("search", walk({ id: page.items[0].id }));
}

function searchPicture(blob, walk) {
  pictures.push({ blob, url: URL.createObjectURL(blob), name: blob.name || "a picture" });
  go("search", walk({ picture: pictures.length - 1 }));
}

function dropZone(walk) {
  const input = h("input", { type: "file", id: "file", accept: "image/*", class: "hidden",
    onchange: () => input.files[0] && searchPicture(input.files[0], walk) });
  const zone = h("label", { class: "drop", for: "file" }, h("strong", {}, "Drop a picture here"),
    h("span", { class: "soft" }, "or choose a file, or paste one"), input);
  const dragOver = (event) => (event.preventDefault(), zone.classList.add("over"));
  zone.addEventListener("dragover", dragOver);
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    const file = event.dataTransfer.files[0];
    if (file) searchPicture(file, walk);
  });
  document.onpaste = (event) => {
    const file = [...event.clipboardData.files].find((pasted) => pasted.type.startsWith("image/"));
    if (file && zone.isConnected) searchPicture(file, walk);
  };
  return zone;
}

function filters(params) {
  const set = (name) => (value) => go("search", withValues(params, { [name]: value }));
  const on = (name) => (value) => set(name)(value ? 1 : null);
  const used = ["label", "split", "group", "k", "recall", "reject", "distinct"].some((name) => params.has(name));
  return h("details", { class: "card", open: used || innerWidth > 900 }, h("summary", {}, "Filters"), h("div", { class: "filters" },
    labelField("label", "Label", params.get("label"), set("label")),
    choice("split", "Split", params.get("split"), SPLITS, set("split")),
    text("group", "Group", params.get("group"), set("group")),
    number("k", "Neighbours", params.get("k") || 24, { min: 1, max: 500, step: 1 }, set("k")),
    number("recall", "Recall", params.get("recall"), { min: 0.01, max: 1, step: 0.01, placeholder: "default" }, set("recall")),
    number("reject", "Reject", params.get("reject"), { min: 0.001, max: 0.9, step: "any", placeholder: "none",
      title: "Share of queries of known classes that may be called unknown, such as 0.05" }, set("reject")),
    flag("distinct", "No exact duplicates", params.has("distinct"), on("distinct"))));
}

// Answers -------------------------------------------------------------------------------------

async function results(params, step, walk) {
  const options = { k: params.get("k") || 24, recall: params.get("recall"), reject: params.get("reject"), label: params.getAll("label"),
    split: params.getAll("split"), group: params.getAll("group"), distinct: params.has("distinct"), explain: true };
  let answer;
  if (step[0] === "p") {
    const picture = pictures[Number(step.slice(2))];
    if (!picture) return emptyBox("The picture is gone", "Uploaded pictures are lost when the page is reloaded. Upload it again.");
    const body = new FormData();
    body.append("file", picture.blob);
    answer = await fetchJson("search/image", { params: options, body });
  } else answer = await fetchJson("search", { params: { ...options, ...valuesOf(step) } });
  const label = answer.query?.label;
  const head = h("div", { class: "head" }, queryCard(step, answer), crumbs(params, step));
  const grid = answer.neighbours.length
    ? h("div", { class: isText() ? "tiles wide" : "tiles", role: "list", id: "neighbours" },
      answer.neighbours.map((neighbour) => h("div", { role: "listitem" }, tile(neighbour, {
        href: link("search", walk({ id: neighbour.id })), distance: neighbour.distance, rank: neighbour.rank,
        same: label === undefined ? undefined : neighbour.label === label }))))
    : emptyBox("Nothing found", "No item passes the filters.");
  return [head, verdict(answer), summary(answer, label), ...answer.left_out.map((line) => h("p", { class: "soft" }, line)), grid, explanationBox(answer.explain)];
}

function queryCard(step, answer) {
  const item = answer.query;
  if (item) {
    return h("div", { class: "query" }, h("span", { class: "frame" }, itemFace(item, { lazy: false })),
      h("div", {}, h("h1", {}, `Item ${item.id}`), h("p", {}, labelOf(item.label)),
        h("p", { class: "soft" }, [item.split, item.group].filter(Boolean).join(" · ")),
        item.path && h("p", { class: "soft path" }, item.path),
        h("p", {}, h("a", { href: link("triplets", { item: item.id }) }, "Its triplets"), " · ",
          h("a", { href: link("map", { id: item.id }) }, "On the map"))));
  }
  if (step[0] === "p") {
    const picture = pictures[Number(step.slice(2))];
    return h("div", { class: "query" }, h("span", { class: "frame" }, h("img", { class: "face", src: picture.url, alt: "the uploaded picture" })),
      h("div", {}, h("h1", {}, "Your picture"), h("p", { class: "soft" }, picture.name)));
  }
  return h("div", { class: "query" }, h("div", {}, h("h1", {}, "Your text"), h("p", { class: "said" }, step.slice(2))));
}

function verdict(answer) {
  if (!answer.unknown) return null;
  const nearest = answer.neighbours[0];
  return h("p", { class: "summary", id: "unknown", role: "status" }, h("strong", {}, "Unknown"),
    nearest ? `: the nearest item is at ${num(nearest.distance, 4)}, beyond the limit ${num(answer.limit, 4)}.` : ": there is no item.");
}

function summary(answer, label) {
  const same = answer.neighbours.filter((neighbour) => neighbour.label === label).length;
  const n = answer.neighbours.length;
  if (!n) return null;
  const votes = new Map();
  for (const neighbour of answer.neighbours.slice(0, 10)) votes.set(neighbour.label, (votes.get(neighbour.label) || 0) + 1);
  const [topLabel, votesOfTop] = [...votes].sort((a, b) => b[1] - a[1])[0];
  return h("p", { class: "summary" }, plural(n, "neighbour"),
    label !== undefined ? [`, ${count(same)} with the same label `, h("i", { class: "dot", "aria-hidden": "true" })]
      : [`; of the nearest ${Math.min(10, n)}, ${votesOfTop} are `, labelOf(topLabel, "inline")]);
}

function crumbs(params, step) {
  const via = params.getAll("via");
  if (!via.length) return null;
  const crumb = (pastStep, place) => h("a", {
    href: link("search", withValues(params, { ...NO_QUERY, ...valuesOf(pastStep), via: via.slice(0, place) })), title: pastStep.slice(2) },
  small(pastStep));
  return h("nav", { class: "crumbs", "aria-label": "Steps of this walk" },
    via.map((pastStep, place) => [crumb(pastStep, place), h("span", { class: "soft", "aria-hidden": "true" }, "›")]),
    h("span", { "aria-current": "step" }, small(step)));
}

function small(step) {
  const value = step.slice(2);
  if (step[0] === "t") return h("span", { class: "mini words" }, value);
  if (step[0] === "p") return pictures[value] ? h("img", { class: "mini", src: pictures[value].url, alt: "your picture" }) : "picture";
  return isPicture() ? h("img", { class: "mini", src: thumbnailOf(value), alt: `item ${value}` }) : h("span", { class: "mini words" }, `#${value}`);
}

function recallText(explanation) {
  if (explanation.factory === "Flat") return "exact: every vector is compared.";
  return explanation.measured === null ? "not measured under a filter." : `measured ${num(explanation.measured, 4)} for queries like the items.`;
}

function explanationBox(explanation) {
  if (!explanation) return null;
  return h("details", { class: "explain" }, h("summary", {}, "What was searched"),
    h("p", {}, `Index ${explanation.factory}`, explanation.knob === "none" ? ", which compares with every vector." : `, ${explanation.knob} ${explanation.setting}.`,
      explanation.visited !== null && explanation.knob !== "none" ? ` ${percent(explanation.visited)} of the vectors were visited.` : ""),
    h("p", {}, `Target recall ${num(explanation.wished, 2)}, `, recallText(explanation)),
    explanation.unlike ? h("p", {}, "This query is unlike the items: it is farther from the index than 99 % of the held-out items on which the recall was measured, so its recall may be lower.") : null,
    h("p", {}, explanation.kept < explanation.items ? `The filter kept ${count(explanation.kept)} of ${count(explanation.items)} items.` : `All ${count(explanation.items)} items.`,
      explanation.widened ? " The first search found too few, so all items were compared." : ""));
}

function welcome(walk) {
  const place = h("div", { class: "welcome" },
    h("h1", {}, "Find the nearest items"),
    h("p", { class: "soft" }, isPicture() ? "Drop a picture, draw one, or click an item to search from it."
      : isText() ? "Enter a text, or click an item to search from it."
        : "Enter an id, or click an item to search from it."),
    h("div", { class: isText() ? "tiles wide" : "tiles" }));
  const start = Math.floor(Math.random() * Math.max(1, served.items - 18));
  fetchJson("items", { params: { offset: served.items > 100000 ? start : 0, seed: served.items > 100000 ? null : start, limit: 18 } })
    .then((page) => fill(place.lastChild, page.items.map((item) => tile(item, { href: link("search", walk({ id: item.id })) }))))
    .catch(() => null);
  return place;
}
