// Mined triplets as rows, filtered, sorted and paged by the server.

import { ask, isText, itemsOf, query } from "./api.js";
import { face, labelOf } from "./cards.js";
import { KINDS, count, empty, fill, h, kindTag, num } from "./dom.js";
import { choice, labelField, pages, range, text } from "./fields.js";
import { changed, go, link } from "./route.js";
import { why } from "./why.js";

const LIMIT = 25;
const COLUMNS = [["d_ap", "d_ap", "squared distance anchor to positive"], ["d_an", "d_an", "squared distance anchor to negative"],
  ["margin", "d_an − d_ap", "how much farther the negative is"], ["negative_rank", "Rank", "how many negatives are nearer to the anchor"]];
const RANGES = ["d_ap", "d_an", "margin", "rank"];
const FILTERS = ["kind", "label", "negative_label", "item", "anchor", ...RANGES.flatMap((n) => [`${n}_min`, `${n}_max`])];

export async function triplets(place, params) {
  const { rounds } = await ask("rounds");
  const mined = rounds.filter((one) => one.mined);
  if (!mined.length) {
    fill(place, empty("No triplets yet", "No round of this version mined any: its rounds trained on PK batches, or none is finished."));
    return;
  }
  const round = params.get("round") ?? String(mined.at(-1).round);
  const wish = { round, limit: LIMIT, offset: params.get("offset") || 0, sort: params.get("sort") || "anchor", descending: params.has("descending") };
  for (const name of FILTERS) wish[name] = params.getAll(name);
  const page = await ask("triplets", { params: wish });
  const items = isText() ? await itemsOf(page.triplets.flatMap((t) => [t.anchor_id, t.positive_id, t.negative_id])) : new Map();
  const to = (offset) => go("triplets", changed(params, { offset: offset || null, open: null }));
  fill(place,
    h("div", { class: "title" }, h("h1", {}, "Mined triplets"), pages(Number(wish.offset), LIMIT, page.total, to)),
    filters(params, mined, round),
    page.triplets.length ? table(params, page, items, mined) : empty("No triplet fits", "Widen a filter, or take another round.",
      h("a", { href: link("triplets", { round }) }, "Without filters")),
    exporting(wish, page.total));
}

function filters(params, mined, round) {
  const set = (name) => (value) => go("triplets", changed(params, { [name]: value, offset: null, open: null }));
  const used = FILTERS.some((name) => params.has(name));
  const ranged = RANGES.some((n) => params.has(`${n}_min`) || params.has(`${n}_max`)) || params.has("item");
  return h("section", { class: "card filters", "aria-label": "Filters" },
    choice("round", "Round", round, mined.map((one) => [one.round, `${one.round} (${count(one.mined.triplets)})`]), set("round")),
    choice("kind", "Kind", params.get("kind"), [["", "any"], ...Object.entries(KINDS)], set("kind")),
    labelField("label", "Anchor's label", params.get("label"), set("label")),
    labelField("negative_label", "Negative's label", params.get("negative_label"), set("negative_label")),
    h("details", { class: "more", open: ranged }, h("summary", {}, "Distances, rank, item"),
      h("div", { class: "filters" },
        [["d_ap", 0.01], ["d_an", 0.01], ["margin", 0.01], ["rank", 1]].map(([name, step]) =>
          range(name, name === "margin" ? "d_an − d_ap" : name, params.get(`${name}_min`), params.get(`${name}_max`), step, (n, v) => set(n)(v))),
        text("item", "Item's id, in any place", params.get("item"), set("item")))),
    used && h("a", { class: "clear", href: link("triplets", { round }) }, "Clear filters"));
}

function table(params, page, items, mined) {
  const sort = params.get("sort");
  const down = params.has("descending");
  const head = ([name, said, title]) => {
    const here = sort === name;
    const next = here && down ? { sort: null, descending: null } : { sort: name, descending: here ? 1 : null };
    return h("th", { scope: "col", class: "n", "aria-sort": here ? (down ? "descending" : "ascending") : null },
      h("a", { href: link("triplets", changed(params, { ...next, offset: null, open: null })), title: `${title}; sort` },
        said, here ? (down ? " ↓" : " ↑") : ""));
  };
  const body = h("tbody");
  page.triplets.forEach((t, place) => body.append(...row(params, t, place, items, page.round, mined)));
  return h("div", { class: "scroll" }, h("table", { class: "rows" },
    h("thead", {}, h("tr", {}, ["Anchor", "Positive", "Negative"].map((name) => h("th", { scope: "col" }, name)),
      h("th", { scope: "col" }, "Kind"), COLUMNS.map(head), h("th", {}, h("span", { class: "sr" }, "Why")))), body));
}

function row(params, t, place, items, round, mined) {
  const panel = h("tr", { class: "why", hidden: true }, h("td", { colspan: 9 }));
  const button = h("button", { type: "button", class: "walk", "aria-expanded": "false", onclick: () => turn(), title: "Why was this mined?" }, "Why?");
  function turn() {
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-expanded", String(!panel.hidden));
    if (!panel.hidden && !panel.firstChild.firstChild) why(panel.firstChild, t, round, mined.find((one) => one.round === round));
  }
  const cell = (id, label, name) => h("td", { class: "who", "data-name": name },
    h("a", { href: link("search", { id }), title: `search from item ${id}` },
      h("span", { class: "frame small" }, face(items.get(id) || { id, label })), h("span", { class: "meta" }, labelOf(label ?? ""), h("span", { class: "soft" }, `#${id}`))));
  const value = (name, x, digits) => h("td", { class: "n", "data-name": name }, x);
  const line = h("tr", { class: "triplet" }, cell(t.anchor_id, t.anchor_label, "Anchor"), cell(t.positive_id, t.positive_label, "Positive"),
    cell(t.negative_id, t.negative_label, "Negative"), h("td", { "data-name": "Kind" }, kindTag(t.kind)),
    value("d_ap", num(t.d_ap)), value("d_an", num(t.d_an)), value("d_an − d_ap", num(t.d_an - t.d_ap)),
    value("Rank", t.negative_rank < 0 ? "by chance" : count(t.negative_rank)), h("td", { class: "n" }, button));
  if (params.get("open") === String(place)) turn();
  return [line, panel];
}

function exporting(wish, total) {
  const quoted = (word) => `'${word.replaceAll("'", "'\\''")}'`;
  const parts = ["remine triplets export triplets.parquet", `--round ${wish.round}`,
    ...wish.kind.map((kind) => `--kind ${kind}`), ...wish.label.map((label) => `--label ${quoted(label)}`)];
  const beyond = FILTERS.filter((name) => !["kind", "label"].includes(name) && wish[name].length);
  const { limit, offset, ...all } = wish;
  return h("section", { class: "card export", "aria-label": "Export" }, h("h2", {}, "Take them elsewhere"),
    h("p", {}, "In a shell, the whole round as Parquet, CSV, JSONL or for sentence-transformers (", h("code", {}, "--layout"), "):"),
    h("pre", {}, h("code", {}, parts.join(" "))),
    beyond.length > 0 && h("p", { class: "soft" }, "The command filters by kind and the anchor's label alone; the download has all filters."),
    h("p", {}, h("a", { class: "button", id: "download", href: `triplets.csv${query(all)}`, download: "triplets.csv" }, "Download as CSV"),
      h("span", { class: "soft" }, total > 100000 ? ` the first 100,000 of ${count(total)} rows, in this order` : ` ${count(total)} rows, in this order`)));
}
