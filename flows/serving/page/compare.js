// Two rounds side by side.

import { ask } from "./api.js";
import { histogram, shares } from "./charts.js";
import { KINDS, count, empty, fill, h, num, percent, signed } from "./dom.js";
import { choice } from "./fields.js";
import { go } from "./route.js";

const MEANS = { d_ap: "mean d_ap", d_an: "mean d_an", margin: "mean d_an − d_ap", negative_rank: "mean rank" };

export async function compare(place, params) {
  const { rounds: all } = await ask("rounds");
  const mined = all.filter((one) => one.mined).map((one) => one.round);
  if (mined.length < 2) {
    fill(place, h("h1", {}, "Compare rounds"), empty("One round is too few", "Two rounds with triplets are needed to compare."));
    return;
  }
  const first = Number(params.get("first") ?? mined[0]);
  const second = Number(params.get("second") ?? mined.at(-1));
  const pick = (name) => (value) => go("compare", { first, second, [name]: value });
  const options = mined.map((n) => [n, `Round ${n}`]);
  const [both, ...sides] = await Promise.all([ask("compare", { params: { first, second } }), ask(`rounds/${first}`), ask(`rounds/${second}`)]);
  const { pairs } = both;
  fill(place, h("div", { class: "title" }, h("h1", {}, "Compare rounds"),
    h("div", { class: "filters" }, choice("first", "Left", first, options, pick("first")), choice("second", "Right", second, options, pick("second")))),
  h("p", { class: "summary" }, `${count(pairs.both)} (anchor, positive) pairs are in both rounds. From ${first} to ${second} their d_ap changed by ${signed(pairs.d_ap_change)} and their d_an by ${signed(pairs.d_an_change)} on average.`),
  h("div", { class: "scroll" }, numbers(both, first, second)),
  h("div", { class: "halves" }, sides.map((side, place) => h("section", {}, h("h2", {}, `Round ${[first, second][place]}`),
    shares(Object.fromEntries(Object.keys(KINDS).map((k) => [k, side.kinds[k]?.rows || 0]))),
    ...Object.entries({ d_ap: "anchor to positive", d_an: "anchor to negative", margin: "the margin left" }).map(([name, said]) =>
      histogram(name === "margin" ? "d_an − d_ap" : name, said, side.histograms[name], domain(sides, name)))))));
}

// One x axis for both sides.
const domain = (sides, name) => {
  const edges = sides.flatMap((side) => side.histograms[name].edges);
  return [Math.min(...edges), Math.max(...edges)];
};

function numbers(both, first, second) {
  const line = (said, a, b, change, same) => h("tr", {}, h("td", {}, said), h("td", { class: "n" }, a), h("td", { class: "n" }, b), h("td", { class: "n" }, change), h("td", { class: "n" }, same));
  return h("table", { class: "plain" }, h("thead", {}, h("tr", {}, h("th", {}), [`Round ${first}`, `Round ${second}`, "Change", "Same triplet in both"].map((t) => h("th", { class: "n" }, t)))),
    h("tbody", {},
      Object.entries(both.kinds).map(([kind, one]) => line(KINDS[kind], count(one.first), count(one.second),
        one.first ? percent(one.second / one.first - 1) : "–", one.second ? `${count(one.same_triplet)} (${percent(one.same_triplet / one.second)})` : "–")),
      Object.entries(both.means).map(([name, [a, b]]) => {
        const digits = name === "negative_rank" ? 1 : 3;
        return line(MEANS[name] || name, num(a, digits), num(b, digits), a === null || b === null ? "–" : signed(b - a, digits), "");
      })));
}
