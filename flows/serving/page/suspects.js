// Items that are probably mislabelled, beside the nearest items of both labels.

import { fetchJson, isAborted } from "./api.js";
import { labelOf, tile } from "./cards.js";
import { count, emptyBox, errorBox, fill, h, loading, num, plural } from "./dom.js";
import { SPLITS, choice, labelField, number, pager } from "./fields.js";
import { go, link, withValues } from "./route.js";

const LIMIT = 10;
const REASONS = { mislabelled: "looks mislabelled", same_content: "same content, two labels", twin: "near twin of another label" };
const SUMMARY_TEXTS = { mislabelled: "nearer to another class", same_content: "with the content of another label", twin: "near twins of another label" };
const STRIP = 5;

export async function suspects(place, params) {
  const options = { margin: params.get("margin") || 0.4, reason: params.getAll("reason"), label: params.get("label"), split: params.get("split"),
    offset: params.get("offset") || 0, limit: LIMIT };
  const page = await fetchJson("suspects", { params: options });
  if (page.state === "working") {
    const bar = h("progress", { max: page.items, value: page.done });
    fill(place, h("h1", {}, "Suspects"), h("div", { class: "empty" }, h("p", { class: "big" }, "Searching all items"), bar, h("p", { class: "soft" }, "This is done once per version; you can search meanwhile.")));
    setTimeout(() => place.isConnected && suspects(place, params).catch((error) => isAborted(error) || fill(place, errorBox(error))), 700);
    return;
  }
  const showPage = (offset) => go("suspects", withValues(params, { offset: offset || null }));
  fill(place, h("div", { class: "title" }, h("h1", {}, "Suspects"), pager(Number(options.offset), LIMIT, page.total, showPage)),
    h("p", { class: "summary" }, `${plural(page.total, "suspect")} among ${count(page.items)} items: `,
      Object.entries(SUMMARY_TEXTS).map(([code, text]) => `${count(page.counts[code] || 0)} ${text}`).join(", "), "."),
    h("p", { class: "soft", id: "judge" }, judgeText(page.judge)),
    filters(params, options),
    page.suspects.length ? h("div", { class: "list" }, page.suspects.map(suspectCard)) : emptyBox("No suspects", "No item is clearly nearer to another class. A smaller margin finds more."));
}

const judgeText = (judge) => judge.name === "served" ? `Judged by version ${judge.version}: ${judge.reason}.`
  : `Judged by the encoder before training (${judge.version ? `version ${judge.version}` : "embedded again"}): ${judge.reason}.`;

function filters(params, options) {
  const set = (name) => (value) => go("suspects", withValues(params, { [name]: value, offset: null }));
  return h("section", { class: "card filters", "aria-label": "Filters" },
    number("margin", "Nearer by at least", options.margin, { min: 0, max: 4, step: 0.05 }, set("margin")),
    choice("reason", "Reason", params.get("reason"), [["", "any"], ...Object.entries(REASONS)], set("reason")),
    labelField("label", "Label, either of the two", params.get("label"), set("label")),
    choice("split", "Split", params.get("split"), SPLITS, set("split")));
}

function suspectCard(suspect) {
  const { item, other } = suspect;
  const labelStrip = h("div", { class: "strip" }, loading());
  const suspectedStrip = h("div", { class: "strip" }, loading());
  fillStrip(labelStrip, item, item.label);
  fillStrip(suspectedStrip, item, suspect.suspected_label);
  return h("article", { class: "card suspect" },
    h("div", { class: "accused" }, tile(item, { href: link("search", { id: item.id }) }), other && tile(other, { href: link("search", { id: other.id }), distance: suspect.distance })),
    h("div", {}, h("p", {}, h("strong", {}, REASONS[suspect.reason]), ": labelled ", labelOf(item.label, "inline"), ", ",
      suspect.reason === "mislabelled" ? ["but the centroid of ", labelOf(suspect.suspected_label, "inline"), ` is ${num(suspect.score, 2)} nearer (squared distance).`]
        : ["the other one ", labelOf(suspect.suspected_label, "inline"), "."]),
    h("h3", {}, "Nearest of its own label"), labelStrip, h("h3", {}, "Nearest of the suspected label"), suspectedStrip));
}

async function fillStrip(place, item, label) {
  try {
    const result = await fetchJson("search", { params: { id: item.id, label, k: STRIP } });
    fill(place, result.neighbours.length ? result.neighbours.map((n) => tile(n, { href: link("search", { id: n.id }), distance: n.distance })) : h("p", { class: "soft" }, "No other item has this label."));
  } catch (error) {
    if (!isAborted(error)) fill(place, h("p", { class: "soft" }, error.message));
  }
}
