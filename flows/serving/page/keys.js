// Keys: / to search, g and a letter for a view, arrows among tiles, ? for this list.

import { fill, h } from "./dom.js";
import { go } from "./route.js";

const LETTERS = { s: "search", t: "triplets", r: "rounds", c: "compare", m: "map", u: "suspects", i: "index" };
const LIST = [
  ["/", "to the search field"],
  ["← ↑ → ↓", "among tiles, or rows of triplets"],
  ["Enter", "walk on from a tile, open a row"],
  ["Alt ←", "one step back"],
  ["g then s t r c m u i", "Search, Triplets, Rounds, Compare, Map, Suspects, Index"],
  ["n, p", "next page, page before"],
  ["d", "dark or light"],
  ["?", "this list"],
  ["Esc", "close"],
];

export function showHelp() {
  const before = document.activeElement;
  const box = h("dialog", { class: "help", "aria-label": "Keyboard" });
  fill(
    box,
    h("h2", {}, "Keyboard"),
    h("dl", {}, LIST.map(([key, said]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, said)])),
    h("form", { method: "dialog" }, h("button", { type: "submit" }, "Close")),
  );
  box.addEventListener("close", () => {
    box.remove();
    before?.focus?.();
  });
  document.body.append(box);
  box.showModal();
}

const typing = (node) => node.closest?.("input, select, textarea, [contenteditable]");

// The tile that lies nearest in the direction of the arrow.
function step(from, key) {
  const all = [...document.querySelectorAll("#main .walk")];
  if (!all.length) return null;
  if (!all.includes(from)) return all[0];
  const here = from.getBoundingClientRect();
  const across = key === "ArrowLeft" || key === "ArrowRight";
  const way = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
  let best = null;
  let least = Infinity;
  for (const one of all) {
    const there = one.getBoundingClientRect();
    const dx = (there.left - here.left) * (across ? way : 1);
    const dy = (there.top - here.top) * (across ? 1 : way);
    const [along, aside] = across ? [dx, Math.abs(dy)] : [dy, Math.abs(dx)];
    if (along > 4 && along + 3 * aside < least) [best, least] = [one, along + 3 * aside];
  }
  if (!best && across) best = all[all.indexOf(from) + way]; // to the next line
  return best;
}

export function watchKeys(turnTheme) {
  let afterG = 0;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const key = event.key;
    if (Date.now() - afterG < 1500 && LETTERS[key]) go(LETTERS[key]);
    else if (key === "/") {
      const field = document.getElementById("q");
      if (field) field.focus();
      else go("search", { focus: 1 });
    } else if (key === "?") showHelp();
    else if (key === "d") turnTheme();
    else if (key === "n" || key === "p") document.querySelector(`#main [data-page="${key}"]:not([disabled])`)?.click();
    else if (key.startsWith("Arrow") && !event.target.closest?.("canvas")) {
      const next = step(document.activeElement, key);
      if (!next) return;
      next.focus();
      next.scrollIntoView({ block: "nearest" });
    } else {
      afterG = key === "g" ? Date.now() : 0;
      return;
    }
    afterG = 0;
    event.preventDefault();
  });
}
