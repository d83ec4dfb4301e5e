// Search by a picture, a text or an id; walk on by a neighbour.

import { ask, isPicture, isText, known } from "./api.js";
import { face, labelOf, tile } from "./cards.js";
import { count, empty, fill, h, many, num, percent } from "./dom.js";
import { drawing } from "./draw.js";
import { SPLITS, choice, flag, labelField, number, text } from "./fields.js";
import { changed, go, link } from "./route.js";

const TRAIL = 12;
const pictures = []; // uploaded ones, for as long as the page is open

// A step of the walk as text: "i:7" an item, "t:..." a text, "p:0" an uploaded picture.
const stepOf = (params) =>
  params.has("id") ? `i:${params.get("id")}` : params.has("text") ? `t:${params.get("text")}`
    : params.has("picture") ? `p:${params.get("picture")}` : null;
const asValues = (step) =>
  ({ i: (v) => ({ id: v }), t: (v) => ({ text: v }), p: (v) => ({ picture: v }) })[step[0]](step.slice(2));
const NOTHING = { id: null, text: null, picture: null, focus: null };

export async function search(place, params) {
  const now = stepOf(params);
  const walk = (values) => changed(params, { ...NOTHING, ...values, via: trail(params, now) });
  fill(place,
    h("div", { class: "ask" }, asking(params, walk), filters(params)),
    h("div", { class: "found" }, now ? await found(params, now, walk) : welcome(walk)));
  if (params.has("focus")) place.addEventListener("shown", () => place.querySelector("#q").focus());
}

const trail = (params, now) => [...params.getAll("via"), ...(now ? [now] : [])].slice(-TRAIL);

// Asking --------------------------------------------------------------------------------------

function asking(params, walk) {
  const words = isText() ? "A text, or #id" : isPicture() ? "An item's id" : "An item's id";
  const field = h("input", { id: "q", type: "search", autocomplete: "off", placeholder: words, "aria-label": words,
    value: params.get("text") || params.get("id") || "" });
  function send(event) {
    event.preventDefault();
    const value = field.value.trim();
    const id = value.match(/^#?(\d{1,18})$/);
    if (id && (!isText() || value.startsWith("#"))) go("search", walk({ id: id[1] }));
    else if (isText() && value) go("search", walk({ text: value }));
    else field.setCustomValidity("An id is a whole number."), field.reportValidity();
  }
  field.addEventListener("input", () => field.setCustomValidity(""));
  return h("section", { class: "card", "aria-label": "Query" },
    isPicture() && dropZone(walk),
    h("form", { class: isText() ? "line long" : "line", role: "search", onsubmit: send }, field, h("button", { class: "main", type: "submit" }, "Search")),
    h("div", { class: "line" },
      h("button", { type: "button", id: "random", onclick: () => random(walk) }, "A random item"),
      isPicture() && h("button", { type: "button", onclick: () => drawing(known.index, (blob) => uploaded(blob, walk)) }, "Draw one")));
}

async function random(walk) {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const one = await ask("items", { params: { offset: seed % Math.max(1, known.items), limit: 1 } });
  if (one.items.length) go("search", walk({ id: one.items[0].id }));
}

function uploaded(blob, walk) {
  pictures.push({ blob, url: URL.createObjectURL(blob), name: blob.name || "a picture" });
  go("search", walk({ picture: pictures.length - 1 }));
}

function dropZone(walk) {
  const input = h("input", { type: "file", id: "file", accept: "image/*", class: "hidden",
    onchange: () => input.files[0] && uploaded(input.files[0], walk) });
  const zone = h("label", { class: "drop", for: "file" }, h("strong", {}, "Drop a picture here"),
    h("span", { class: "soft" }, "or choose a file, or paste one"), input);
  const over = (event) => (event.preventDefault(), zone.classList.add("over"));
  zone.addEventListener("dragover", over);
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    const file = event.dataTransfer.files[0];
    if (file) uploaded(file, walk);
  });
  document.onpaste = (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file && zone.isConnected) uploaded(file, walk);
  };
  return zone;
}

function filters(params) {
  const set = (name) => (value) => go("search", changed(params, { [name]: value }));
  const on = (name) => (value) => set(name)(value ? 1 : null);
  const used = ["label", "split", "group", "k", "recall", "distinct"].some((name) => params.has(name));
  return h("details", { class: "card", open: used || innerWidth > 900 }, h("summary", {}, "Filters"), h("div", { class: "filters" },
    labelField("label", "Label", params.get("label"), set("label")),
    choice("split", "Split", params.get("split"), SPLITS, set("split")),
    text("group", "Group", params.get("group"), set("group")),
    number("k", "Neighbours", params.get("k") || 24, { min: 1, max: 500, step: 1 }, set("k")),
    number("recall", "Recall", params.get("recall"), { min: 0.01, max: 1, step: 0.01, placeholder: "index's" }, set("recall")),
    flag("distinct", "No exact duplicates", params.has("distinct"), on("distinct"))));
}

// Answers -------------------------------------------------------------------------------------

async function found(params, now, walk) {
  const wish = { k: params.get("k") || 24, recall: params.get("recall"), label: params.getAll("label"),
    split: params.getAll("split"), group: params.getAll("group"), distinct: params.has("distinct"), explain: true };
  let answer;
  if (now[0] === "p") {
    const picture = pictures[Number(now.slice(2))];
    if (!picture) return empty("The picture is gone", "A page that was loaded again no longer has it. Drop it again.");
    const body = new FormData();
    body.append("file", picture.blob);
    answer = await ask("search/image", { params: wish, body });
  } else answer = await ask("search", { params: { ...wish, ...asValues(now) } });
  const label = answer.query?.label;
  const head = h("div", { class: "head" }, queryCard(now, answer), crumbs(params, now));
  const grid = answer.neighbours.length
    ? h("div", { class: isText() ? "tiles wide" : "tiles", role: "list", id: "neighbours" },
      answer.neighbours.map((one) => h("div", { role: "listitem" }, tile(one, {
        href: link("search", walk({ id: one.id })), distance: one.distance, rank: one.rank,
        same: label === undefined ? undefined : one.label === label }))))
    : empty("Nothing found", "No item passes these filters.");
  return [head, summary(answer, label), grid, explained(answer.explain)];
}

function queryCard(now, answer) {
  const item = answer.query;
  if (item) {
    return h("div", { class: "query" }, h("span", { class: "frame" }, face(item, { lazy: false })),
      h("div", {}, h("h1", {}, `Item ${item.id}`), h("p", {}, labelOf(item.label)),
        h("p", { class: "soft" }, [item.split, item.group].filter(Boolean).join(" · ")),
        h("p", {}, h("a", { href: link("triplets", { item: item.id }) }, "Its triplets"), " · ",
          h("a", { href: link("map", { id: item.id }) }, "On the map"))));
  }
  if (now[0] === "p") {
    const picture = pictures[Number(now.slice(2))];
    return h("div", { class: "query" }, h("span", { class: "frame" }, h("img", { class: "face", src: picture.url, alt: "the uploaded picture" })),
      h("div", {}, h("h1", {}, "Your picture"), h("p", { class: "soft" }, picture.name)));
  }
  return h("div", { class: "query" }, h("div", {}, h("h1", {}, "Your text"), h("p", { class: "said" }, now.slice(2))));
}

function summary(answer, label) {
  const same = answer.neighbours.filter((one) => one.label === label).length;
  const n = answer.neighbours.length;
  if (!n) return null;
  const votes = new Map();
  for (const one of answer.neighbours.slice(0, 10)) votes.set(one.label, (votes.get(one.label) || 0) + 1);
  const [most, times] = [...votes].sort((a, b) => b[1] - a[1])[0];
  return h("p", { class: "summary" }, many(n, "neighbour"),
    label !== undefined ? [`, ${count(same)} with the same label `, h("i", { class: "dot", "aria-hidden": "true" })]
      : [`; of the nearest ${Math.min(10, n)}, ${times} are `, labelOf(most, "inline")]);
}

function crumbs(params, now) {
  const via = params.getAll("via");
  if (!via.length) return null;
  const crumb = (step, place) => h("a", {
    href: link("search", changed(params, { ...NOTHING, ...asValues(step), via: via.slice(0, place) })), title: step.slice(2) },
  small(step));
  return h("nav", { class: "crumbs", "aria-label": "The walk so far" },
    via.map((step, place) => [crumb(step, place), h("span", { class: "soft", "aria-hidden": "true" }, "›")]),
    h("span", { "aria-current": "step" }, small(now)));
}

function small(step) {
  const value = step.slice(2);
  if (step[0] === "t") return h("span", { class: "mini words" }, value);
  if (step[0] === "p") return pictures[value] ? h("img", { class: "mini", src: pictures[value].url, alt: "your picture" }) : "picture";
  return isPicture() ? h("img", { class: "mini", src: `items/${value}/thumbnail`, alt: `item ${value}` }) : h("span", { class: "mini words" }, `#${value}`);
}

function explained(told) {
  if (!told) return null;
  return h("details", { class: "explain" }, h("summary", {}, "What was searched"),
    h("p", {}, `Index ${told.factory}`, told.knob === "none" ? ", which compares with every vector." : `, ${told.knob} ${told.setting}.`,
      told.visited !== null && told.knob !== "none" ? ` ${percent(told.visited)} of the vectors were visited.` : ""),
    h("p", {}, `Recall wished ${num(told.wished, 2)}, `, told.measured === null ? "not measured under a filter." : `measured ${num(told.measured, 4)} at this setting.`),
    h("p", {}, told.kept < told.items ? `The filter kept ${count(told.kept)} of ${count(told.items)} items.` : `All ${count(told.items)} items.`,
      told.widened ? " Too few were found at first, so everything was looked at." : ""));
}

function welcome(walk) {
  const place = h("div", { class: "welcome" },
    h("h1", {}, "What is nearest to this?"),
    h("p", { class: "soft" }, isPicture() ? "Drop a picture, draw one, or start from an item below and walk on by clicking."
      : isText() ? "Write a sentence, or start from an item below and walk on by clicking."
        : "Name an id, or start from an item below and walk on by clicking."),
    h("div", { class: isText() ? "tiles wide" : "tiles" }));
  const some = Math.floor(Math.random() * Math.max(1, known.items - 18));
  ask("items", { params: { offset: known.items > 100000 ? some : 0, seed: known.items > 100000 ? null : some, limit: 18 } })
    .then((answer) => fill(place.lastChild, answer.items.map((one) => tile(one, { href: link("search", walk({ id: one.id })) }))))
    .catch(() => null);
  return place;
}
