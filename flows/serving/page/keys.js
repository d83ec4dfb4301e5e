// Keyboard shortcuts.

import { fill, h } from "./dom.js";
import { go } from "./route.js";

const LETTERS = { s: "search", t: "triplets", r: "rounds", c: "compare", m: "map", u: "suspects", i: "index" };
const LIST = [
  ["/", "go to the search field"],
  ["← ↑ → ↓", "move among tiles or rows of triplets"],
  ["Enter", "search from a tile, open a row"],
  ["Alt ←", "go back"],
  ["g then s t r c m u i", "Search, Triplets, Rounds, Compare, Map, Suspects, Index"],
  ["n, p", "next page, previous page"],
  ["d", "switch between dark and light"],
  ["?", "show this list"],
  ["Esc", "close"],
];

export function showHelp() {
  const previousFocus = document.activeElement;
  const dialog = h("dialog", { class: "help", "aria-label": "Keyboard" });
  fill(
    dialog,
    h("h2", {}, "Keyboard"),
    h("dl", {}, LIST.map(([key, action]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, action)])),
    h("form", { method: "dialog" }, h("button", { type: "submit" }, "Close")),
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    previousFocus?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();
}

const isTyping = (node) => node.closest?.("input, select, textarea, [contenteditable]");

// The nearest tile in the direction of an arrow key.
function nextTile(current, key) {
  const tiles = [...document.querySelectorAll("#main .walk")];
  if (!tiles.length) return null;
  if (!tiles.includes(current)) return tiles[0];
  const here = current.getBoundingClientRect();
  const isHorizontal = key === "ArrowLeft" || key === "ArrowRight";
  const sign = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
  let best = null;
  let bestCost = Infinity;
  for (const tile of tiles) {
    const there = tile.getBoundingClientRect();
    const dx = (there.left - here.left) * (isHorizontal ? sign : 1);
    const dy = (there.top - here.top) * (isHorizontal ? 1 : sign);
    const [along, aside] = isHorizontal ? [dx, Math.abs(dy)] : [dy, Math.abs(dx)];
    // A step aside costs three times a step along.
    if (along > 4 && along + 3 * aside < bestCost) [best, bestCost] = [tile, along + 3 * aside];
  }
  if (!best && isHorizontal) best = tiles[tiles.indexOf(current) + sign]; // wrap to the next line
  return best;
}

export function watchKeys(toggleTheme) {
  let lastG = 0;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const key = event.key;
    if (Date.now() - lastG < 1500 && LETTERS[key]) go(LETTERS[key]);
    else if (key === "/") {
      const field = document.getElementById("q");
      if (field) field.focus();
      else go("search", { focus: 1 });
    } else if (key === "?") showHelp();
    else if (key === "d") toggleTheme();
    else if (key === "n" || key === "p") document.querySelector(`#main [data-page="${key}"]:not([disabled])`)?.click();
    else if (key.startsWith("Arrow") && !event.target.closest?.("canvas")) {
      const next = nextTile(document.activeElement, key);
      if (!next) return;
      next.focus();
      next.scrollIntoView({ block: "nearest" });
    } else {
      lastG = key === "g" ? Date.now() : 0;
      return;
    }
    lastG = 0;
    event.preventDefault();
  });
}
