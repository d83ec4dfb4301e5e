// What a round mined: distances, kinds, confused classes, hubs; and how retrieval went.

import { ask, isText, itemsOf } from "./api.js";
import { labelOf, tile } from "./cards.js";
import { histogram, lines, shares } from "./charts.js";
import { KINDS, count, empty, fill, h, num, percent } from "./dom.js";
import { link } from "./route.js";

const NAMED = { "recall@1": "R@1", "recall@2": "R@2", "recall@4": "R@4", "recall@8": "R@8", "map@r": "MAP@R", spread: "spread", loss: "loss", active: "active" };

export async function rounds(place, params) {
  const { rounds: all, cycle, finished } = await ask("rounds");
  const mined = all.filter((one) => one.mined);
  fill(place, h("div", { class: "title" }, h("h1", {}, `Rounds of cycle ${cycle}`), h("span", { class: "soft" }, finished ? "finished" : "still running")), table(all), curves(all));
  if (!mined.length) {
    place.append(empty("No triplets", "The rounds of this cycle mined none."));
    return;
  }
  const number = Number(params.get("round") ?? mined.at(-1).round);
  place.append(h("div", { class: "tabs", role: "group", "aria-label": "Round" }, mined.map((one) =>
    h("a", { href: link("rounds", { round: one.round }), "aria-current": one.round === number ? "true" : null }, `Round ${one.round}`))));
  const study = await ask(`rounds/${number}`);
  place.append(await studied(study));
}

function metricNames(all) {
  const names = new Set(all.flatMap((one) => Object.keys(one.metrics || {})));
  return [...names].filter((name) => NAMED[name.toLowerCase()] || /recall|map|spread/i.test(name)).slice(0, 6);
}

const nameOf = (name) => NAMED[name.toLowerCase()] || name.replaceAll("_", " ");
const shown = (name, x) => (x === null || x === undefined ? "–" : /spread/.test(name) ? num(x) : percent(x));

function table(all) {
  const names = metricNames(all);
  return h("div", { class: "scroll" }, h("table", { class: "plain" },
    h("thead", {}, h("tr", {}, h("th", {}, "Round"), names.map((n) => h("th", { class: "n" }, nameOf(n))),
      h("th", { class: "n" }, "Triplets"), Object.values(KINDS).map((k) => h("th", { class: "n" }, k)))),
    h("tbody", {}, all.map((one) => h("tr", {}, h("td", {}, one.round), names.map((n) => h("td", { class: "n" }, shown(n, one.metrics?.[n]))),
      h("td", { class: "n" }, count(one.mined?.triplets)), Object.keys(KINDS).map((k) => h("td", { class: "n" }, count(one.mined?.[k]))))))));
}

function curves(all) {
  const names = metricNames(all).filter((n) => !/spread/.test(n)).slice(0, 3);
  const series = {};
  for (const name of names) {
    const points = all.filter((one) => Number.isFinite(one.metrics?.[name])).map((one) => [one.round, one.metrics[name]]);
    if (points.length > 1) series[nameOf(name)] = points;
  }
  return Object.keys(series).length ? h("div", { class: "charts" }, lines("Retrieval", "before each round, unseen classes", series, { y: [0, 1], whole: true, yTick: (v) => `${Math.round(100 * v)} %` })) : null;
}

async function studied(study) {
  const kinds = Object.fromEntries(Object.keys(KINDS).map((k) => [k, study.kinds[k]?.rows || 0]));
  const items = isText() ? await itemsOf(study.hubs.map((hub) => hub.id)) : new Map();
  return h("div", {},
    h("p", { class: "summary" }, `${count(study.rows)} triplets of ${count(study.anchors)} anchors; ${count(study.negatives)} different negatives.`),
    shares(kinds),
    h("div", { class: "charts" },
      histogram("d_ap", "anchor to positive", study.histograms.d_ap), histogram("d_an", "anchor to negative", study.histograms.d_an),
      histogram("d_an − d_ap", "the margin left", study.histograms.margin)),
    h("div", { class: "halves" },
      h("section", {}, h("h2", {}, "Classes held apart most often"), study.confused.length ? h("div", { class: "scroll" }, confused(study)) : h("p", { class: "soft" }, "None.")),
      h("section", {}, h("h2", {}, "Hub negatives"), h("p", { class: "soft" }, "Items that most often serve as the negative."),
        h("div", { class: isText() ? "tiles wide" : "tiles" }, study.hubs.map((hub) =>
          tile({ label: hub.label, ...(items.get(hub.id) || {}), id: hub.id, split: null },
            { href: link("triplets", { round: study.round, item: hub.id }), note: `${count(hub.count)} times, ${count(hub.anchors)} anchors` }))))));
}

function confused(study) {
  const most = study.confused[0].count;
  return h("table", { class: "plain" }, h("thead", {}, h("tr", {}, h("th", {}, "Anchor's label"), h("th", {}, "Negative's label"), h("th", { class: "n" }, "Triplets"))),
    h("tbody", {}, study.confused.map((one) => {
      const bar = h("i", { class: "bar" });
      bar.style.setProperty("--share", String(one.count / most));
      return h("tr", {}, h("td", {}, labelOf(one.label)), h("td", {}, labelOf(one.negative_label)),
        h("td", { class: "n" }, bar, h("a", { href: link("triplets", { round: study.round, label: one.label, negative_label: one.negative_label }) }, count(one.count))));
    })));
}
