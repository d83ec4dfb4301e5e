// Why a triplet was mined, in sentences, beside other negatives of its anchor.

import { fetchJson, isText, itemsOf, served } from "./api.js";
import { tile } from "./cards.js";
import { KINDS, KIND_MEANS, count, errorBox, fill, h, num, plural } from "./dom.js";
import { link } from "./route.js";

export async function why(place, t, round, card) {
  const nearestStrip = h("div", { class: "strip" });
  const minedStrip = h("div", { class: "strip" });
  fill(place, h("div", { class: "because" }, h("h3", {}, `Why #${t.anchor_id}, #${t.positive_id}, #${t.negative_id}?`), sentences(t, round, card),
    h("h3", {}, `What round ${round} mined for this anchor`), minedStrip,
    h("h3", {}, `The anchor's nearest negatives in the served version ${served.version}`),
    h("p", { class: "soft" }, "By the served model, so distances may differ from those above. The ringed one is this triplet's negative."), nearestStrip));
  fillNearest(nearestStrip, t).catch((error) => fill(nearestStrip, errorBox(error)));
  fillMined(minedStrip, t, round).catch((error) => fill(minedStrip, errorBox(error)));
}

function sentences(t, round, card) {
  const margin = card?.margin;
  const gap = t.d_an - t.d_ap;
  const rank = t.negative_rank;
  return h("ul", {},
    h("li", {}, `The positive has the anchor's label and was at ${num(t.d_ap)} (squared distance, 0 to 4) when round ${round} mined.`),
    h("li", {}, `The negative has another label and was at ${num(t.d_an)}, ${num(Math.abs(gap))} ${gap > 0 ? "farther" : "nearer"} than the positive.`),
    h("li", {}, rank < 0 ? "It was drawn at random, so it has no rank."
      : rank === 0 ? "No other negative of the training split was nearer to the anchor."
        : `${plural(rank, "negative")} of the training split ${rank === 1 ? "was" : "were"} nearer to the anchor.`),
    h("li", {}, `That makes it ${KINDS[t.kind]}: ${KIND_MEANS[t.kind]}`,
      typeof margin === "number" ? ` (mined with margin ${num(margin, 2)}: semi-hard lies between ${num(t.d_ap)} and ${num(t.d_ap + margin)}).` : "."),
    h("li", {}, t.kind === "semi_hard" && rank > 0 ? "The nearer ones are at most as far as the positive, or were excluded by a guard: a semi-hard negative is the nearest one beyond it."
      : t.kind === "hard" ? "The model confuses the two: training pushes the negative beyond the positive."
        : "It teaches the model to keep the two labels apart by the margin."));
}

async function fillNearest(place, t) {
  const params = { id: t.anchor_id, k: 60, split: "train" };
  const result = await fetchJson("search", { params });
  const negatives = result.neighbours.filter((neighbour) => neighbour.label !== t.anchor_label).slice(0, 12);
  if (!negatives.length) {
    fill(place, h("p", { class: "soft" }, "All of the 60 nearest items have the anchor's label."));
    return;
  }
  fill(place, negatives.map((neighbour) => {
    const card = tile(neighbour, { href: link("search", { id: neighbour.id }), distance: neighbour.distance });
    if (neighbour.id === t.negative_id) card.classList.add("this");
    return card;
  }));
}

async function fillMined(place, t, round) {
  const page = await fetchJson("triplets", { params: { round, anchor: t.anchor_id, sort: "d_an", limit: 12 } });
  const items = isText() ? await itemsOf(page.triplets.map((triplet) => triplet.negative_id)) : new Map();
  fill(place, page.triplets.map((triplet) => {
    const card = tile({ label: triplet.negative_label, ...(items.get(triplet.negative_id) || {}), id: triplet.negative_id, split: null },
      { href: link("search", { id: triplet.negative_id }), distance: triplet.d_an, note: `${KINDS[triplet.kind]}, rank ${triplet.negative_rank < 0 ? "–" : count(triplet.negative_rank)}, d_ap ${num(triplet.d_ap, 2)}` });
    if (triplet.negative_id === t.negative_id && triplet.positive_id === t.positive_id && triplet.kind === t.kind) card.classList.add("this");
    return card;
  }), page.total > 12 && h("p", { class: "soft" }, `and ${count(page.total - 12)} more`));
}
