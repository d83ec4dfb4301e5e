// Why a triplet was mined, in plain sentences, with what else lay near.

import { ask, isText, itemsOf, known } from "./api.js";
import { tile } from "./cards.js";
import { KIND_MEANS, KINDS, count, fault, fill, h, many, num } from "./dom.js";
import { link } from "./route.js";

export async function why(place, t, round, card) {
  const near = h("div", { class: "strip" });
  const then = h("div", { class: "strip" });
  fill(place, h("div", { class: "because" }, h("h3", {}, `Why #${t.anchor_id}, #${t.positive_id}, #${t.negative_id}?`), sentences(t, round, card),
    h("h3", {}, `What round ${round} mined for this anchor`), then,
    h("h3", {}, `The anchor's nearest negatives in the served version ${known.version}`),
    h("p", { class: "soft" }, "As the newest model sees them, so distances may differ from those above. The ringed one is this triplet's."), near));
  negatives(near, t).catch((error) => fill(near, fault(error)));
  others(then, t, round).catch((error) => fill(then, fault(error)));
}

function sentences(t, round, card) {
  const margin = card?.margin;
  const gap = t.d_an - t.d_ap;
  const rank = t.negative_rank;
  return h("ul", {},
    h("li", {}, `The positive is of the anchor's label and lay ${num(t.d_ap)} away (squared distance, 0 to 4) when round ${round} mined.`),
    h("li", {}, `The negative is of another label and lay ${num(t.d_an)} away, ${num(Math.abs(gap))} ${gap > 0 ? "farther" : "nearer"} than the positive.`),
    h("li", {}, rank < 0 ? "It was drawn by chance, so its rank was not counted."
      : rank === 0 ? "No other negative of the training split was nearer to the anchor."
        : `${many(rank, "negative")} of the training split ${rank === 1 ? "was" : "were"} nearer to the anchor.`),
    h("li", {}, `That makes it ${KINDS[t.kind]}: ${KIND_MEANS[t.kind]}`,
      typeof margin === "number" ? ` (mined with margin ${num(margin, 2)}: semi-hard lies between ${num(t.d_ap)} and ${num(t.d_ap + margin)}).` : "."),
    h("li", {}, t.kind === "semi_hard" && rank > 0 ? "Those nearer ones are at most as far as the positive, or were left out by a guard: the semi-hard negative is the nearest one beyond it."
      : t.kind === "hard" ? "The model confuses the two now: training pushes the negative away until it lies beyond the positive."
        : "It teaches the model to keep the two labels apart by the margin."));
}

async function negatives(place, t) {
  const params = { id: t.anchor_id, k: 60, split: "train" };
  const found = await ask("search", { params });
  const unlike = found.neighbours.filter((one) => one.label !== t.anchor_label).slice(0, 12);
  if (!unlike.length) {
    fill(place, h("p", { class: "soft" }, "The 60 nearest items are all of the anchor's own label."));
    return;
  }
  fill(place, unlike.map((one) => {
    const shown = tile(one, { href: link("search", { id: one.id }), distance: one.distance });
    if (one.id === t.negative_id) shown.classList.add("this");
    return shown;
  }));
}

async function others(place, t, round) {
  const page = await ask("triplets", { params: { round, anchor: t.anchor_id, sort: "d_an", limit: 12 } });
  const items = isText() ? await itemsOf(page.triplets.map((one) => one.negative_id)) : new Map();
  fill(place, page.triplets.map((one) => {
    const shown = tile({ label: one.negative_label, ...(items.get(one.negative_id) || {}), id: one.negative_id, split: null },
      { href: link("search", { id: one.negative_id }), distance: one.d_an, note: `${KINDS[one.kind]}, rank ${one.negative_rank < 0 ? "–" : count(one.negative_rank)}, d_ap ${num(one.d_ap, 2)}` });
    if (one.negative_id === t.negative_id && one.positive_id === t.positive_id && one.kind === t.kind) shown.classList.add("this");
    return shown;
  }), page.total > 12 && h("p", { class: "soft" }, `and ${count(page.total - 12)} more`));
}
