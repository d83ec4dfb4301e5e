// A sample of the items on a plane: zoom, pan, hover, click to search.

import { ask, isText, itemsOf } from "./api.js";
import { face, labelOf } from "./cards.js";
import { count, fill, h, percent } from "./dom.js";
import { choice } from "./fields.js";
import { changed, go, link } from "./route.js";

const NEAR = 14;
const SPLIT_HUES = { train: 174, val: 38, test: 262 };

export async function map(place, params) {
  const by = params.get("by") || "label";
  const sample = Number(params.get("items") || 2000);
  const data = await ask("map", { params: { items: sample } });
  const canvas = h("canvas", { class: "plane", tabindex: "0", "aria-label": "Map of the items; arrows move, plus and minus zoom, Enter searches" });
  const tip = h("div", { class: "tip", hidden: true });
  const set = (name) => (value) => go("map", changed(params, { [name]: value }));
  const reset = h("button", { type: "button" }, "Whole");
  fill(place,
    h("div", { class: "title" }, h("h1", {}, "Map"), h("div", { class: "filters" },
      choice("by", "Colour", by, [["label", "by label"], ["split", "by split"]], set("by")),
      choice("items", "Items", sample, [[500, "500"], [2000, "2,000"], [5000, "5,000"]], set("items")), reset)),
    h("p", { class: "soft" }, `${count(data.ids.length)} random items on the embedding's two widest directions, which show ${percent(data.explained)} of its variance. Drag, scroll or pinch; click a point to search from it.`),
    by === "split" && h("p", { class: "legend" }, Object.keys(SPLIT_HUES).map((name) => h("span", {}, h("i", { class: `key ${name}` }), ` ${name}`))),
    h("div", { class: "planebox" }, canvas, tip));
  const plane = new Plane(canvas, tip, data, by, Number(params.get("id") || -1));
  reset.addEventListener("click", () => plane.whole());
}

class Plane {
  constructor(canvas, tip, data, by, marked) {
    Object.assign(this, { canvas, tip, data, by, at: -1, pointers: new Map() });
    this.marked = data.ids.indexOf(marked);
    this.view = { x: 0, y: 0, zoom: 1 };
    new ResizeObserver(() => this.draw()).observe(canvas);
    const theme = () => (canvas.isConnected ? this.draw() : document.removeEventListener("theme", theme));
    document.addEventListener("theme", theme);
    canvas.addEventListener("wheel", (e) => (e.preventDefault(), this.zoom(Math.exp(-e.deltaY / 400), e)), { passive: false });
    canvas.addEventListener("pointerdown", (e) => this.down(e));
    canvas.addEventListener("pointermove", (e) => this.move(e));
    canvas.addEventListener("pointerup", (e) => this.up(e));
    canvas.addEventListener("pointercancel", (e) => this.pointers.delete(e.pointerId));
    canvas.addEventListener("pointerleave", () => this.point(-1));
    canvas.addEventListener("keydown", (e) => this.key(e));
  }

  scale() {
    const { clientWidth: w, clientHeight: hh } = this.canvas;
    return (Math.min(w, hh) / 2 - 16) * this.view.zoom;
  }

  place(i) {
    const { clientWidth: w, clientHeight: hh } = this.canvas;
    const s = this.scale();
    return [w / 2 + (this.data.x[i] - this.view.x) * s, hh / 2 - (this.data.y[i] - this.view.y) * s];
  }

  draw() {
    const { canvas, data } = this;
    const ratio = devicePixelRatio || 1;
    const [w, hh] = [canvas.clientWidth, canvas.clientHeight];
    if (!w) return;
    canvas.width = w * ratio;
    canvas.height = hh * ratio;
    const brush = canvas.getContext("2d");
    brush.scale(ratio, ratio);
    const dark = getComputedStyle(canvas).colorScheme === "dark";
    const radius = Math.min(7, 2.6 * Math.sqrt(this.view.zoom));
    for (let i = 0; i < data.ids.length; i += 1) {
      const [x, y] = this.place(i);
      if (x < -9 || y < -9 || x > w + 9 || y > hh + 9) continue;
      const hue = this.by === "split" ? SPLIT_HUES[data.split[i]] : (data.label[i] * 137.508) % 360;
      brush.fillStyle = `hsl(${hue} ${dark ? "55% 65%" : "60% 42%"} / .8)`;
      brush.beginPath();
      brush.arc(x, y, radius, 0, 7);
      brush.fill();
    }
    for (const i of [this.marked, this.at]) {
      if (i < 0) continue;
      brush.strokeStyle = dark ? "#fff" : "#111";
      brush.lineWidth = 2;
      brush.beginPath();
      brush.arc(...this.place(i), radius + 3, 0, 7);
      brush.stroke();
    }
  }

  zoom(by, e) {
    const box = this.canvas.getBoundingClientRect();
    const [dx, dy] = e ? [e.clientX - box.left - box.width / 2, box.height / 2 - (e.clientY - box.top)] : [0, 0];
    const before = this.scale();
    this.view.zoom = Math.min(200, Math.max(0.5, this.view.zoom * by));
    const after = this.scale();
    this.view.x += dx / before - dx / after;
    this.view.y += dy / before - dy / after;
    this.draw();
  }

  pan(dx, dy) {
    this.view.x -= dx / this.scale();
    this.view.y += dy / this.scale();
    this.draw();
  }

  whole() {
    this.view = { x: 0, y: 0, zoom: 1 };
    this.draw();
  }

  down(e) {
    this.canvas.setPointerCapture(e.pointerId);
    this.pointers.set(e.pointerId, [e.clientX, e.clientY]);
    this.dragged = 0;
  }

  move(e) {
    const before = this.pointers.get(e.pointerId);
    if (!before) {
      this.point(this.nearest(e));
      return;
    }
    const [dx, dy] = [e.clientX - before[0], e.clientY - before[1]];
    const other = [...this.pointers].find(([id]) => id !== e.pointerId)?.[1];
    this.dragged += Math.abs(dx) + Math.abs(dy);
    this.pointers.set(e.pointerId, [e.clientX, e.clientY]);
    if (other) {
      const far = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      this.zoom(far([e.clientX, e.clientY]) / far(before), { clientX: other[0], clientY: other[1] });
    } else this.pan(dx, dy);
  }

  up(e) {
    this.pointers.delete(e.pointerId);
    if (this.dragged < 6) {
      const i = this.nearest(e);
      if (i >= 0) go("search", { id: this.data.ids[i] });
    }
  }

  nearest(e) {
    const box = this.canvas.getBoundingClientRect();
    let best = -1;
    let least = NEAR;
    for (let i = 0; i < this.data.ids.length; i += 1) {
      const [x, y] = this.place(i);
      const far = Math.hypot(x - (e.clientX - box.left), y - (e.clientY - box.top));
      if (far < least) [best, least] = [i, far];
    }
    return best;
  }

  async point(i) {
    if (i === this.at) return;
    this.at = i;
    this.draw();
    this.tip.hidden = i < 0;
    this.canvas.classList.toggle("over", i >= 0);
    if (i < 0) return;
    const { data, tip } = this;
    const id = data.ids[i];
    const item = { id, label: data.labels[data.label[i]] };
    const show = (one) => fill(tip, h("span", { class: "frame" }, face(one, { lazy: false })), labelOf(item.label), h("span", { class: "soft" }, `#${id} · ${data.split[i]}`));
    show(item);
    const [x, y] = this.place(i);
    tip.style.left = `${Math.min(x + 14, this.canvas.clientWidth - 150)}px`;
    tip.style.top = `${y > this.canvas.clientHeight - 180 ? y - 170 : y + 14}px`;
    if (isText()) {
      const found = await itemsOf([id]).catch(() => null);
      if (found && this.at === i) show(found.get(id));
    }
  }

  key(e) {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (moves[e.key]) this.pan(...moves[e.key]);
    else if (e.key === "+" || e.key === "=") this.zoom(1.4);
    else if (e.key === "-") this.zoom(1 / 1.4);
    else if (e.key === "0") this.whole();
    else if (e.key === "Enter" && this.at >= 0) go("search", { id: this.data.ids[this.at] });
    else return;
    e.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    this.point(this.nearest({ clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 }));
  }
}
