// Items as pictures, texts or ids, with their labels.

import { isPicture, isText, thumbnailOf } from "./api.js";
import { h, num } from "./dom.js";

// A long label is cut at its start, since its end differs ("Alphabet/character07").
export function labelOf(label, extra = "") {
  return h("span", { class: `label ${extra}`, title: label }, h("bdi", {}, label));
}

export function itemFace(item, { lazy = true } = {}) {
  if (isPicture()) {
    return h("img", {
      class: "face", alt: `item ${item.id}${item.label ? `, ${item.label}` : ""}`, draggable: "false",
      src: thumbnailOf(item.id), loading: lazy ? "lazy" : null, decoding: "async",
    });
  }
  if (isText()) return h("span", { class: "face words" }, item.text === undefined ? "…" : item.text || "(empty)");
  return h("span", { class: "face number" }, `#${item.id}`);
}

export function tile(item, { href, distance, same, note, rank } = {}) {
  const description = [`item ${item.id}`, item.label, distance === undefined ? "" : `distance ${num(distance)}`];
  if (same !== undefined) description.push(same ? "same label as the query" : "another label");
  return h(
    href ? "a" : "div",
    { class: `tile ${href ? "walk" : ""} ${same ? "same" : ""}`, href, "aria-label": description.filter(Boolean).join(", "), "data-id": item.id },
    h("span", { class: "frame" }, itemFace(item)),
    h("span", { class: "meta" },
      labelOf(item.label ?? ""),
      h("span", { class: "facts" },
        distance === undefined ? h("span", {}, `#${item.id}`) : h("span", { class: "far", title: "squared distance" }, num(distance)),
        rank !== undefined && h("span", { class: "soft" }, `#${item.id}`),
        item.split && h("span", { class: "soft" }, item.split)),
      note && h("span", { class: "soft" }, note)),
  );
}
