// Mined triplets as rows, filtered, sorted and paged by the server.

import { fetchJson, isText, itemsOf, query } from "./api.js";
import { itemFace, labelOf } from "./cards.js";
import { KINDS, count, emptyBox, fill, h, kindTag, num } from "./dom.js";
import { choice, labelField, pager, range, text } from "./fields.js";
import { go, link, withValues } from "./route.js";
import { why } from "./why.js";

const LIMIT = 25;
const COLUMNS = [["d_ap", "d_ap", "squared distance anchor to positive"], ["d_an", "d_an", "squared distance anchor to negative"],
  ["margin", "d_an − d_ap", "how much farther the negative is"], ["negative_rank", "Rank", "how many negatives are nearer to the anchor"]];
const RANGES = ["d_ap", "d_an", "margin", "rank"];
const FILTERS = ["kind", "label", "negative_label", "item", "anchor", ...RANGES.flatMap((n) => [`${n}_min`, `${n}_max`])];

export async function triplets(place, params) {
  const { rounds } = await fetchJson("rounds");
  const minedRows = rounds.filter((row) => row.mined);
  if (!minedRows.length) {
    fill(place, emptyBox("No triplets yet", "No round of this version mined triplets: its rounds trained on PK batches, or none has finished."));
    return;
  }
  const round = params.get("round") ?? String(minedRows.at(-1).round);
  const options = { round, limit: LIMIT, offset: params.get("offset") || 0, sort: params.get("sort") || "anchor", descending: params.has("descending") };
  for (const name of FILTERS) options[name] = params.getAll(name);
  const page = await fetchJson("triplets", { params: options });
  const items = isText() ? await itemsOf(page.triplets.flatMap((t) => [t.anchor_id, t.positive_id, t.negative_id])) : new Map();
  const showPage = (offset) => go("triplets", withValues(params, { offset: offset || null, open: null }));
  fill(place,
    h("div", { class: "title" }, h("h1", {}, "Mined triplets"), pager(Number(options.offset), LIMIT, page.total, showPage)),
    filters(params, minedRows, round),
    page.triplets.length ? table(params, page, items, minedRows) : emptyBox("No triplet fits", "Widen a filter, or choose another round.",
      h("a", { href: link("triplets", { round }) }, "Remove the filters")),
    exportBox(options, page.total));
}

function filters(params, minedRows, round) {
  const set = (name) => (value) => go("triplets", withValues(params, { [name]: value, offset: null, open: null }));
  const isFiltered = FILTERS.some((name) => params.has(name));
  const isRanged = RANGES.some((n) => params.has(`${n}_min`) || params.has(`${n}_max`)) || params.has("item");
  return h("section", { class: "card filters", "aria-label": "Filters" },
    choice("round", "Round", round, minedRows.map((row) => [row.round, `${row.round} (${count(row.mined.triplets)})`]), set("round")),
    choice("kind", "Kind", params.get("kind"), [["", "any"], ...Object.entries(KINDS)], set("kind")),
    labelField("label", "Anchor's label", params.get("label"), set("label")),
    labelField("negative_label", "Negative's label", params.get("negative_label"), set("negative_label")),
    h("details", { class: "more", open: isRanged }, h("summary", {}, "Distances, rank, item"),
      h("div", { class: "filters" },
        [["d_ap", 0.01], ["d_an", 0.01], ["margin", 0.01], ["rank", 1]].map(([name, step]) =>
          range(name, name === "margin" ? "d_an − d_ap" : name, params.get(`${name}_min`), params.get(`${name}_max`), step, (n, v) => set(n)(v))),
        text("item", "Item's id, in any role", params.get("item"), set("item")))),
    isFiltered && h("a", { class: "clear", href: link("triplets", { round }) }, "Clear filters"));
}

function table(params, page, items, minedRows) {
  const sort = params.get("sort");
  const isDescending = params.has("descending");
  const head = ([name, heading, title]) => {
    const isSorted = sort === name;
    const next = isSorted && isDescending ? { sort: null, descending: null } : { sort: name, descending: isSorted ? 1 : null };
    return h("th", { scope: "col", class: "n", "aria-sort": isSorted ? (isDescending ? "descending" : "ascending") : null },
      h("a", { href: link("triplets", withValues(params, { ...next, offset: null, open: null })), title: `${title}; sort` },
        heading, isSorted ? (isDescending ? " ↓" : " ↑") : ""));
  };
  const body = h("tbody");
  page.triplets.forEach((t, place) => body.append(...row(params, t, place, items, page.round, minedRows)));
  return h("div", { class: "scroll" }, h("table", { class: "rows" },
    h("thead", {}, h("tr", {}, ["Anchor", "Positive", "Negative"].map((name) => h("th", { scope: "col" }, name)),
      h("th", { scope: "col" }, "Kind"), COLUMNS.map(head), h("th", {}, h("span", { class: "sr" }, "Why")))), body));
}

function row(params, t, place, items, round, minedRows) {
  const panel = h("tr", { class: "why", hidden: true }, h("td", { colspan: 9 }));
  const button = h("button", { type: "button", class: "walk", "aria-expanded": "false", onclick: () => toggle(), title: "Why was this mined?" }, "Why?");
  function toggle() {
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-expanded", String(!panel.hidden));
    if (!panel.hidden && !panel.firstChild.firstChild) why(panel.firstChild, t, round, minedRows.find((row) => row.round === round));
  }
  const cell = (id, label, name) => h("td", { class: "who", "data-name": name },
    h("a", { href: link("search", { id }), title: `search from item ${id}` },
      h("span", { class: "frame small" }, itemFace(items.get(id) || { id, label })), h("span", { class: "meta" }, labelOf(label ?? ""), h("span", { class: "soft" }, `#${id}`))));
  const value = (name, x) => h("td", { class: "n", "data-name": name }, x);
  const line = h("tr", { class: "triplet" }, cell(t.anchor_id, t.anchor_label, "Anchor"), cell(t.positive_id, t.positive_label, "Positive"),
    cell(t.negative_id, t.negative_label, "Negative"), h("td", { "data-name": "Kind" }, kindTag(t.kind)),
    value("d_ap", num(t.d_ap)), value("d_an", num(t.d_an)), value("d_an − d_ap", num(t.d_an - t.d_ap)),
    value("Rank", t.negative_rank < 0 ? "random" : count(t.negative_rank)), h("td", { class: "n" }, button));
  if (params.get("open") === String(place)) toggle();
  return [line, panel];
}

function exportBox(options, total) {
  const shellQuoted = (word) => `'${word.replaceAll("'", "'\\''")}'`;
  const parts = ["remine triplets export triplets.parquet", `--round ${options.round}`,
    ...options.kind.map((kind) => `--kind ${kind}`), ...options.label.map((label) => `--label ${shellQuoted(label)}`)];
  const otherFilters = FILTERS.filter((name) => !["kind", "label"].includes(name) && options[name].length);
  const { limit, offset, ...unpaged } = options;
  return h("section", { class: "card export", "aria-label": "Export" }, h("h2", {}, "Export"),
    h("p", {}, "In a shell, as Parquet, CSV, JSONL or for sentence-transformers (", h("code", {}, "--layout"), "):"),
    h("pre", {}, h("code", {}, parts.join(" "))),
    otherFilters.length > 0 && h("p", { class: "soft" }, "The command filters by kind and anchor's label only; the download applies all filters."),
    h("p", {}, h("a", { class: "button", id: "download", href: `triplets.csv${query(unpaged)}`, download: "triplets.csv" }, "Download as CSV"),
      h("span", { class: "soft" }, total > 100000 ? ` the first 100,000 of ${count(total)} rows, in this order` : ` ${count(total)} rows, in this order`)));
}
