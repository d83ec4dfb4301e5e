// The served index, its measured recall, and the published versions.

import { fetchJson, loadIndex } from "./api.js";
import { lines } from "./charts.js";
import { bytes, count, fill, h, num, percent } from "./dom.js";

export async function index(place) {
  const [card, published] = await Promise.all([loadIndex(), fetchJson("versions")]);
  const facts = [["Factory", card.factory], ["Reason", card.reason], ["Items", count(card.items)], ["Dimensions", card.dimensions], ["Content", card.content],
    ["Size", bytes(card.bytes)], ["Setting", card.knob === "none" ? "none: every vector is compared" : `${card.knob} ${card.setting}`],
    ["Target recall", num(card.wished, 3)], ["Measured recall", `${num(card.recall, 4)} on ${count(card.held_out)} held-out items, for queries like them`],
    ["Cycle, round", `${card.cycle}, ${card.round}`], ["Checkpoint", h("code", {}, card.checkpoint.slice(0, 16))], ["Embeddings", h("code", {}, card.embeddings.slice(0, 16))]];
  const points = (key) => card.curve.map((p) => [p.setting, p[key]]);
  const series = { "recall@1": points("recall_1"), "recall@10": points("recall_10"), "recall@100": points("recall_100") };
  fill(place, h("h1", {}, `Version ${card.version}`),
    h("div", { class: "halves" },
      h("section", { class: "card" }, h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
      card.curve.length > 1
        ? lines("Recall", `by ${card.knob} (powers of two), against exact search, for queries like the items`, series, { log: true, yTick: (v) => percent(v, 1) })
        : h("section", { class: "card" }, h("p", {}, `This index has one setting: recall@10 ${num(card.curve[0]?.recall_10, 4)} for queries like the items. Indexes with a setting, such as IVF, have a curve here.`))),
    h("h2", {}, "Published versions"),
    h("p", { class: "soft" }, published.pinned ? `Version ${published.pinned} is pinned; ` : "The newest is served; ", h("code", {}, "remine index use N"), " serves another one."),
    h("div", { class: "scroll" }, h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, h("th", {}, "Version"), ["Cycle", "Round", "Items", "Recall", "Size"].map((n) => h("th", { class: "n" }, n)), h("th", {}, "Factory"), h("th", {}, "Checkpoint"))),
      h("tbody", {}, published.versions.map((v) => h("tr", { class: v.version === published.served ? "here" : "" }, h("td", {}, v.version, v.version === published.served && h("span", { class: "pill" }, "served")),
        [v.cycle, `${v.round} of ${v.rounds}`, count(v.items), num(v.recall, 4), bytes(v.bytes)].map((x) => h("td", { class: "n" }, x)), h("td", {}, v.factory), h("td", {}, h("code", {}, v.checkpoint.slice(0, 12)))))))));
}
