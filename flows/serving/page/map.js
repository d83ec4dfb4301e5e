// A sample of the items on a plane: zoom, pan, hover, click to search.

import { fetchJson, isText, itemsOf } from "./api.js";
import { itemFace, labelOf } from "./cards.js";
import { count, fill, h, percent } from "./dom.js";
import { choice } from "./fields.js";
import { go, withValues } from "./route.js";

const HOVER_RADIUS = 14;
const SPLIT_HUES = { train: 174, val: 38, test: 262 };

export async function map(place, params) {
  const by = params.get("by") || "label";
  const sample = Number(params.get("items") || 2000);
  const data = await fetchJson("map", { params: { items: sample } });
  const canvas = h("canvas", { class: "plane", tabindex: "0", "aria-label": "Map of the items; arrows move, plus and minus zoom, Enter searches" });
  const tip = h("div", { class: "tip", hidden: true });
  const set = (name) => (value) => go("map", withValues(params, { [name]: value }));
  const reset = h("button", { type: "button" }, "Reset");
  fill(place,
    h("div", { class: "title" }, h("h1", {}, "Map"), h("div", { class: "filters" },
      choice("by", "Colour", by, [["label", "by label"], ["split", "by split"]], set("by")),
      choice("items", "Items", sample, [[500, "500"], [2000, "2,000"], [5000, "5,000"]], set("items")), reset)),
    h("p", { class: "soft" }, `${count(data.ids.length)} random items on the first two principal axes of the embeddings, which show ${percent(data.explained)} of the variance. Drag, scroll or pinch; click a point to search from it.`),
    by === "split" && h("p", { class: "legend" }, Object.keys(SPLIT_HUES).map((name) => h("span", {}, h("i", { class: `key ${name}` }), ` ${name}`))),
    h("div", { class: "planebox" }, canvas, tip));
  const plane = new Plane(canvas, tip, data, by, params.get("id"));
  reset.addEventListener("click", () => plane.reset());
}

class Plane {
  constructor(canvas, tip, data, by, markedId) {
    Object.assign(this, { canvas, tip, data, by, hovered: -1, pointers: new Map() });
    this.marked = data.ids.findIndex((id) => String(id) === markedId);
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
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return (Math.min(width, height) / 2 - 16) * this.view.zoom;
  }

  place(i) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = this.scale();
    return [width / 2 + (this.data.x[i] - this.view.x) * scale, height / 2 - (this.data.y[i] - this.view.y) * scale];
  }

  draw() {
    const { canvas, data } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const brush = canvas.getContext("2d");
    brush.scale(ratio, ratio);
    const dark = getComputedStyle(canvas).colorScheme === "dark";
    const radius = Math.min(7, 2.6 * Math.sqrt(this.view.zoom));
    for (let i = 0; i < data.ids.length; i += 1) {
      const [x, y] = this.place(i);
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      const hue = this.by === "split" ? SPLIT_HUES[data.split[i]] : (data.label[i] * 137.508) % 360;
      brush.fillStyle = `hsl(${hue} ${dark ? "55% 65%" : "60% 42%"} / .8)`;
      brush.beginPath();
      brush.arc(x, y, radius, 0, 7);
      brush.fill();
    }
    for (const i of [this.marked, this.hovered]) {
      if (i < 0) continue;
      brush.strokeStyle = dark ? "#fff" : "#111";
      brush.lineWidth = 2;
      brush.beginPath();
      brush.arc(...this.place(i), radius + 3, 0, 7);
      brush.stroke();
    }
  }

  zoom(factor, e) {
    const box = this.canvas.getBoundingClientRect();
    const [dx, dy] = e ? [e.clientX - box.left - box.width / 2, box.height / 2 - (e.clientY - box.top)] : [0, 0];
    const oldScale = this.scale();
    this.view.zoom = Math.min(200, Math.max(0.5, this.view.zoom * factor));
    const newScale = this.scale();
    this.view.x += dx / oldScale - dx / newScale;
    this.view.y += dy / oldScale - dy / newScale;
    this.draw();
  }

  pan(dx, dy) {
    this.view.x -= dx / this.scale();
    this.view.y += dy / this.scale();
    this.draw();
  }

  reset() {
    this.view = { x: 0, y: 0, zoom: 1 };
    this.draw();
  }

  down(e) {
    this.canvas.setPointerCapture(e.pointerId);
    this.pointers.set(e.pointerId, [e.clientX, e.clientY]);
    this.dragged = 0;
  }

  move(e) {
    const previous = this.pointers.get(e.pointerId);
    if (!previous) {
      this.point(this.nearest(e));
      return;
    }
    const [dx, dy] = [e.clientX - previous[0], e.clientY - previous[1]];
    const otherPointer = [...this.pointers].find(([id]) => id !== e.pointerId)?.[1];
    this.dragged += Math.abs(dx) + Math.abs(dy);
    this.pointers.set(e.pointerId, [e.clientX, e.clientY]);
    if (otherPointer) {
      const distance = (p) => Math.hypot(p[0] - otherPointer[0], p[1] - otherPointer[1]) || 1;
      this.zoom(distance([e.clientX, e.clientY]) / distance(previous), { clientX: otherPointer[0], clientY: otherPointer[1] });
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
    let bestDistance = HOVER_RADIUS;
    for (let i = 0; i < this.data.ids.length; i += 1) {
      const [x, y] = this.place(i);
      const distance = Math.hypot(x - (e.clientX - box.left), y - (e.clientY - box.top));
      if (distance < bestDistance) [best, bestDistance] = [i, distance];
    }
    return best;
  }

  async point(i) {
    if (i === this.hovered) return;
    this.hovered = i;
    this.draw();
    this.tip.hidden = i < 0;
    this.canvas.classList.toggle("over", i >= 0);
    if (i < 0) return;
    const { data, tip } = this;
    const id = data.ids[i];
    const item = { id, label: data.labels[data.label[i]] };
    const show = (tipItem) => fill(tip, h("span", { class: "frame" }, itemFace(tipItem, { lazy: false })), labelOf(item.label), h("span", { class: "soft" }, `#${id} · ${data.split[i]}`));
    show(item);
    const [x, y] = this.place(i);
    tip.style.left = `${Math.min(x + 14, this.canvas.clientWidth - 150)}px`;
    tip.style.top = `${y > this.canvas.clientHeight - 180 ? y - 170 : y + 14}px`;
    if (isText()) {
      const items = await itemsOf([id]).catch(() => null);
      if (items && this.hovered === i) show(items.get(id));
    }
  }

  key(e) {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (moves[e.key]) this.pan(...moves[e.key]);
    else if (e.key === "+" || e.key === "=") this.zoom(1.4);
    else if (e.key === "-") this.zoom(1 / 1.4);
    else if (e.key === "0") this.reset();
    else if (e.key === "Enter" && this.hovered >= 0) go("search", { id: this.data.ids[this.hovered] });
    else return;
    e.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    this.point(this.nearest({ clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 }));
  }
}
