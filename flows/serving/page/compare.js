// Two rounds side by side.

import { fetchJson } from "./api.js";
import { histogram, shares } from "./charts.js";
import { KINDS, count, emptyBox, fill, h, num, percent, signed } from "./dom.js";
import { choice } from "./fields.js";
import { go } from "./route.js";

const MEANS = { d_ap: "mean d_ap", d_an: "mean d_an", margin: "mean d_an − d_ap", negative_rank: "mean rank" };

export async function compare(place, params) {
  const { rounds } = await fetchJson("rounds");
  const numbers = rounds.filter((row) => row.mined).map((row) => row.round);
  if (numbers.length < 2) {
    fill(place, h("h1", {}, "Compare rounds"), emptyBox("Only one round has triplets", "A comparison needs two rounds with triplets."));
    return;
  }
  const first = Number(params.get("first") ?? numbers[0]);
  const second = Number(params.get("second") ?? numbers.at(-1));
  const select = (name) => (value) => go("compare", { first, second, [name]: value });
  const options = numbers.map((n) => [n, `Round ${n}`]);
  const [comparison, ...sides] = await Promise.all([fetchJson("compare", { params: { first, second } }), fetchJson(`rounds/${first}`), fetchJson(`rounds/${second}`)]);
  const { pairs } = comparison;
  fill(place, h("div", { class: "title" }, h("h1", {}, "Compare rounds"),
    h("div", { class: "filters" }, choice("first", "Left", first, options, select("first")), choice("second", "Right", second, options, select("second")))),
  h("p", { class: "summary" }, `${count(pairs.both)} (anchor, positive) pairs are in both rounds. From ${first} to ${second} their d_ap changed by ${signed(pairs.d_ap_change)} and their d_an by ${signed(pairs.d_an_change)} on average.`),
  h("div", { class: "scroll" }, table(comparison, first, second)),
  h("div", { class: "halves" }, sides.map((side, i) => h("section", {}, h("h2", {}, `Round ${[first, second][i]}`),
    shares(Object.fromEntries(Object.keys(KINDS).map((k) => [k, side.kinds[k]?.rows || 0]))),
    ...Object.entries({ d_ap: "anchor to positive", d_an: "anchor to negative", margin: "the margin" }).map(([name, subtitle]) =>
      histogram(name === "margin" ? "d_an − d_ap" : name, subtitle, side.histograms[name], domain(sides, name)))))));
}

// One x axis for both sides.
const domain = (sides, name) => {
  const edges = sides.flatMap((side) => side.histograms[name].edges);
  return [Math.min(...edges), Math.max(...edges)];
};

function table(comparison, first, second) {
  const line = (title, a, b, change, same) => h("tr", {}, h("td", {}, title), h("td", { class: "n" }, a), h("td", { class: "n" }, b), h("td", { class: "n" }, change), h("td", { class: "n" }, same));
  return h("table", { class: "plain" }, h("thead", {}, h("tr", {}, h("th", {}), [`Round ${first}`, `Round ${second}`, "Change", "Same triplet in both"].map((t) => h("th", { class: "n" }, t)))),
    h("tbody", {},
      Object.entries(comparison.kinds).map(([kind, counts]) => line(KINDS[kind], count(counts.first), count(counts.second),
        counts.first ? percent(counts.second / counts.first - 1) : "–", counts.second ? `${count(counts.same_triplet)} (${percent(counts.same_triplet / counts.second)})` : "–")),
      Object.entries(comparison.means).map(([name, [a, b]]) => {
        const digits = name === "negative_rank" ? 1 : 3;
        return line(MEANS[name] || name, num(a, digits), num(b, digits), a === null || b === null ? "–" : signed(b - a, digits), "");
      })));
}
