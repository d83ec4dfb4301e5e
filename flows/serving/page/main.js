// The frame of the page: the view that the address names, the served version, the theme.

import { abortRequests, checkHealth, isAborted, loadIndex, on, served } from "./api.js";
import { errorBox, fill, h, loading } from "./dom.js";
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
let showCount = 0;

async function show({ quiet = false } = {}) {
  const { view, params } = address();
  const name = VIEWS[view] ? view : "search";
  abortRequests();
  const number = (showCount += 1);
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · remine`;
  const place = h("div", { class: `view ${name}` });
  // The old view stays until the new one is ready, and must not be clicked.
  main.setAttribute("aria-busy", "true");
  const wait = setTimeout(() => number === showCount && !quiet && fill(main, loading()), 300);
  try {
    if (!served.index) await loadIndex();
    await VIEWS[name](place, params);
    if (number !== showCount) return;
    fill(main, place);
    place.dispatchEvent(new Event("shown"));
  } catch (error) {
    if (isAborted(error) || number !== showCount || error.status === 401) return;
    fill(main, errorBox(error, () => show()));
  } finally {
    clearTimeout(wait);
    if (number === showCount) main.removeAttribute("aria-busy");
  }
}

// The served version -------------------------------------------------------------------------

const badge = document.getElementById("served");
const notice = document.getElementById("notice");

on("version", async (version, previous) => {
  badge.textContent = `version ${version}`;
  if (!previous) return;
  fill(
    notice,
    h("div", { class: "news" }, `Version ${version} is served now; this view shows it.`,
      h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => fill(notice) }, "×")),
  );
  served.index = null;
  await show({ quiet: true });
});

on("unauthorized", () => signIn(main, () => show()));

async function poll() {
  if (!document.hidden) {
    try {
      const health = await checkHealth();
      badge.classList.toggle("bad", health.status !== "ok");
      badge.title = health.detail || "The served version";
    } catch {
      badge.classList.add("bad");
      badge.title = "The server does not respond";
    }
  }
  setTimeout(poll, 3000);
}

// Light and dark -----------------------------------------------------------------------------

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  document.dispatchEvent(new Event("theme"));
}

function toggleTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme.trim() === "dark";
  const theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("remine-theme", theme);
  } catch {
    // Without storage the theme changes for this page only.
  }
  setTheme(theme);
}

try {
  setTheme(localStorage.getItem("remine-theme"));
} catch {
  // Without storage the theme of the system is used.
}
document.getElementById("theme").addEventListener("click", toggleTheme);
document.getElementById("help").addEventListener("click", showHelp);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme());
watchKeys(toggleTheme);
addEventListener("hashchange", () => show().then(() => scrollTo(0, 0)));
show();
poll();
