// The rounds of a cycle: retrieval, and a round's distances, kinds, confused classes and hubs.

import { fetchJson, isText, itemsOf } from "./api.js";
import { labelOf, tile } from "./cards.js";
import { histogram, lines, shares } from "./charts.js";
import { KINDS, count, emptyBox, fill, h, num, percent } from "./dom.js";
import { link } from "./route.js";

const METRIC_NAMES = { "recall@1": "R@1", "recall@2": "R@2", "recall@4": "R@4", "recall@8": "R@8", "map@r": "MAP@R", spread: "spread", loss: "loss", active: "active" };

export async function rounds(place, params) {
  const { rounds: rows, cycle, finished, served_round: served } = await fetchJson("rounds");
  const minedRows = rows.filter((row) => row.mined);
  fill(place, h("div", { class: "title" }, h("h1", {}, `Rounds of cycle ${cycle}`), h("span", { class: "soft" }, `${finished ? "finished" : "still running"}; round ${served} is served`)), table(rows, served), curves(rows));
  if (!minedRows.length) {
    place.append(emptyBox("No triplets", "No round of this cycle mined triplets."));
    return;
  }
  const number = Number(params.get("round") ?? minedRows.at(-1).round);
  place.append(h("div", { class: "tabs", role: "group", "aria-label": "Round" }, minedRows.map((row) =>
    h("a", { href: link("rounds", { round: row.round }), "aria-current": row.round === number ? "true" : null }, `Round ${row.round}`))));
  const stats = await fetchJson(`rounds/${number}`);
  place.append(await roundView(stats));
}

function metricNames(rows) {
  const names = new Set(rows.flatMap((row) => Object.keys(row.metrics || {})));
  return [...names].filter((name) => METRIC_NAMES[name.toLowerCase()] || /recall|map|spread/i.test(name)).slice(0, 6);
}

const nameOf = (name) => METRIC_NAMES[name.toLowerCase()] || name.replaceAll("_", " ");
const formatted = (name, x) => (x === null || x === undefined ? "–" : /spread/.test(name) ? num(x) : percent(x));

function table(rows, served) {
  const names = metricNames(rows), hasVal = rows.some((row) => row.val);
  return h("div", { class: "scroll" }, h("table", { class: "plain" },
    h("thead", {}, h("tr", {}, h("th", {}, "Round"), names.map((n) => h("th", { class: "n" }, nameOf(n))),
      hasVal ? h("th", { class: "n" }, "val MAP@R") : null, h("th", { class: "n" }, "Triplets"), Object.values(KINDS).map((k) => h("th", { class: "n" }, k)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("td", {}, row.round === served ? `${row.round} (served)` : row.round), names.map((n) => h("td", { class: "n" }, formatted(n, row.metrics?.[n]))),
      hasVal ? h("td", { class: "n" }, formatted("map@r", row.val?.["map@r"])) : null, h("td", { class: "n" }, count(row.mined?.triplets)), Object.keys(KINDS).map((k) => h("td", { class: "n" }, count(row.mined?.[k]))))))));
}

function curves(rows) {
  const names = metricNames(rows).filter((n) => !/spread/.test(n)).slice(0, 3);
  const series = {};
  for (const name of names) {
    const points = rows.filter((row) => Number.isFinite(row.metrics?.[name])).map((row) => [row.round, row.metrics[name]]);
    if (points.length > 1) series[nameOf(name)] = points;
  }
  return Object.keys(series).length ? h("div", { class: "charts" }, lines("Retrieval", "before each round, among the test items", series, { y: [0, 1], integers: true, yTick: (v) => `${Math.round(100 * v)} %` })) : null;
}

async function roundView(stats) {
  const kinds = Object.fromEntries(Object.keys(KINDS).map((k) => [k, stats.kinds[k]?.rows || 0]));
  const items = isText() ? await itemsOf(stats.hubs.map((hub) => hub.id)) : new Map();
  return h("div", {},
    h("p", { class: "summary" }, `${count(stats.rows)} triplets of ${count(stats.anchors)} anchors; ${count(stats.negatives)} different negatives.`),
    shares(kinds),
    h("div", { class: "charts" },
      histogram("d_ap", "anchor to positive", stats.histograms.d_ap), histogram("d_an", "anchor to negative", stats.histograms.d_an),
      histogram("d_an − d_ap", "the margin", stats.histograms.margin)),
    h("div", { class: "halves" },
      h("section", {}, h("h2", {}, "Most confused classes"), stats.confused.length ? h("div", { class: "scroll" }, confusedTable(stats)) : h("p", { class: "soft" }, "None.")),
      h("section", {}, h("h2", {}, "Hub negatives"), h("p", { class: "soft" }, "Items that most often serve as the negative."),
        h("div", { class: isText() ? "tiles wide" : "tiles" }, stats.hubs.map((hub) =>
          tile({ label: hub.label, ...(items.get(hub.id) || {}), id: hub.id, split: null },
            { href: link("triplets", { round: stats.round, item: hub.id }), note: `${count(hub.count)} times, ${count(hub.anchors)} anchors` }))))));
}

function confusedTable(stats) {
  const maximum = stats.confused[0].count;
  return h("table", { class: "plain" }, h("thead", {}, h("tr", {}, h("th", {}, "Anchor's label"), h("th", {}, "Negative's label"), h("th", { class: "n" }, "Triplets"))),
    h("tbody", {}, stats.confused.map((pair) => {
      const bar = h("i", { class: "bar" });
      bar.style.setProperty("--share", String(pair.count / maximum));
      return h("tr", {}, h("td", {}, labelOf(pair.label)), h("td", {}, labelOf(pair.negative_label)),
        h("td", { class: "n" }, bar, h("a", { href: link("triplets", { round: stats.round, label: pair.label, negative_label: pair.negative_label }) }, count(pair.count))));
    })));
}
