// Labels that are probably wrong: the item, its class's neighbours, the class it looks like.

import { aborted, ask } from "./api.js";
import { labelOf, tile } from "./cards.js";
import { count, empty, fault, fill, h, many, num, spin } from "./dom.js";
import { SPLITS, choice, labelField, number, pages } from "./fields.js";
import { changed, go, link } from "./route.js";

const LIMIT = 10;
const REASONS = { mislabelled: "looks mislabelled", same_content: "same content, two labels", twin: "near twin of another label" };
const COUNTED = { mislabelled: "nearer to another class", same_content: "with the content of another label", twin: "near twins of another label" };
const STRIP = 5;

export async function suspects(place, params) {
  const wish = { margin: params.get("margin") || 0.4, reason: params.getAll("reason"), label: params.get("label"), split: params.get("split"),
    offset: params.get("offset") || 0, limit: LIMIT };
  const page = await ask("suspects", { params: wish });
  if (page.state === "working") {
    const bar = h("progress", { max: page.items, value: page.done });
    fill(place, h("h1", {}, "Suspects"), h("div", { class: "empty" }, h("p", { class: "big" }, "Looking at every item, once"), bar, h("p", { class: "soft" }, "Searches go on meanwhile; what is found is kept for this version.")));
    setTimeout(() => place.isConnected && suspects(place, params).catch((error) => aborted(error) || fill(place, fault(error))), 700);
    return;
  }
  const to = (offset) => go("suspects", changed(params, { offset: offset || null }));
  fill(place, h("div", { class: "title" }, h("h1", {}, "Suspects"), pages(Number(wish.offset), LIMIT, page.total, to)),
    h("p", { class: "summary" }, `${many(page.total, "suspect")} among ${count(page.items)} items: `,
      Object.entries(COUNTED).map(([code, said]) => `${count(page.counts[code] || 0)} ${said}`).join(", "), "."),
    filters(params, wish),
    page.suspects.length ? h("div", { class: "list" }, page.suspects.map(one)) : empty("No suspects", "Nothing lies clearly nearer to another class. A smaller margin suspects more."));
}

function filters(params, wish) {
  const set = (name) => (value) => go("suspects", changed(params, { [name]: value, offset: null }));
  return h("section", { class: "card filters", "aria-label": "Filters" },
    number("margin", "Nearer by at least", wish.margin, { min: 0, max: 4, step: 0.05 }, set("margin")),
    choice("reason", "Reason", params.get("reason"), [["", "any"], ...Object.entries(REASONS)], set("reason")),
    labelField("label", "Label, either of the two", params.get("label"), set("label")),
    choice("split", "Split", params.get("split"), SPLITS, set("split")));
}

function one(suspect) {
  const { item, other } = suspect;
  const own = h("div", { class: "strip" }, spin());
  const that = h("div", { class: "strip" }, spin());
  strip(own, item, item.label);
  strip(that, item, suspect.suspected_label);
  return h("article", { class: "card suspect" },
    h("div", { class: "accused" }, tile(item, { href: link("search", { id: item.id }) }), other && tile(other, { href: link("search", { id: other.id }), distance: suspect.distance })),
    h("div", {}, h("p", {}, h("strong", {}, REASONS[suspect.reason]), ": filed under ", labelOf(item.label, "inline"), ", ",
      suspect.reason === "mislabelled" ? ["but the middle of ", labelOf(suspect.suspected_label, "inline"), ` is ${num(suspect.score, 2)} nearer (squared distance).`]
        : ["the other one under ", labelOf(suspect.suspected_label, "inline"), "."]),
    h("h3", {}, "Nearest of its own label"), own, h("h3", {}, "Nearest of the label it looks like"), that));
}

async function strip(place, item, label) {
  try {
    const found = await ask("search", { params: { id: item.id, label, k: STRIP } });
    fill(place, found.neighbours.length ? found.neighbours.map((n) => tile(n, { href: link("search", { id: n.id }), distance: n.distance })) : h("p", { class: "soft" }, "It is the only one."));
  } catch (error) {
    if (!aborted(error)) fill(place, h("p", { class: "soft" }, error.message));
  }
}
