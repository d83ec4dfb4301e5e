// The frame: which view the address names, keys, light and dark, the served version.

import { aborted, known, leave, learn, on, pulse } from "./api.js";
import { fault, fill, h, spin } from "./dom.js";
import { showHelp, watchKeys } from "./keys.js";
import { signIn } from "./signin.js";
import { search } from "./search.js";
import { triplets } from "./triplets.js";
import { rounds } from "./rounds.js";
import { compare } from "./compare.js";
import { map } from "./map.js";
import { suspects } from "./suspects.js";
import { index } from "./versions.js";
import { address } from "./route.js";

const VIEWS = { search, triplets, rounds, compare, map, suspects, index };
const main = document.getElementById("main");
let shown = 0;

async function show({ quiet = false } = {}) {
  const { view, params } = address();
  const chosen = VIEWS[view] ? view : "search";
  leave();
  const turn = (shown += 1);
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.view === chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${chosen[0].toUpperCase()}${chosen.slice(1)} · remine`;
  const place = h("div", { class: `view ${chosen}` });
  main.setAttribute("aria-busy", "true"); // what is still seen is of the address before: not to be clicked
  const wait = setTimeout(() => turn === shown && !quiet && fill(main, spin()), 300);
  try {
    if (!known.index) await learn();
    await VIEWS[chosen](place, params);
    if (turn !== shown) return;
    fill(main, place);
    place.dispatchEvent(new Event("shown"));
  } catch (error) {
    if (aborted(error) || turn !== shown || error.status === 401) return;
    fill(main, fault(error, () => show()));
  } finally {
    clearTimeout(wait);
    if (turn === shown) main.removeAttribute("aria-busy");
  }
}

// The served version -------------------------------------------------------------------------

const served = document.getElementById("served");
const notice = document.getElementById("notice");

on("version", async (version, before) => {
  served.textContent = `version ${version}`;
  if (!before) return;
  fill(
    notice,
    h("div", { class: "news" }, `Version ${version} is served now; what you see is from it.`,
      h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => fill(notice) }, "×")),
  );
  known.index = null;
  await show({ quiet: true });
});

on("refused", () => signIn(main, () => show()));

async function look() {
  if (!document.hidden) {
    try {
      const health = await pulse();
      served.classList.toggle("bad", health.status !== "ok");
      served.title = health.detail || "The served version";
    } catch {
      served.classList.add("bad");
      served.title = "The server does not answer";
    }
  }
  setTimeout(look, 3000);
}

// Light and dark -----------------------------------------------------------------------------

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  document.dispatchEvent(new Event("theme"));
}

function turnTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme.trim() === "dark";
  const theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("remine-theme", theme);
  } catch {
    // A browser that keeps nothing still turns.
  }
  setTheme(theme);
}

try {
  setTheme(localStorage.getItem("remine-theme"));
} catch {
  // As above.
}
document.getElementById("theme").addEventListener("click", turnTheme);
document.getElementById("help").addEventListener("click", showHelp);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme());
watchKeys(turnTheme);
addEventListener("hashchange", () => show().then(() => scrollTo(0, 0)));
show();
look();
