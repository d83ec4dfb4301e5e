// Charts as SVG: histograms by kind, shares, lines.

import { KINDS, count, h, num, percent, svg } from "./dom.js";

const W = 420;
const H = 170;
const PAD = { left: 44, right: 10, top: 8, bottom: 26 };

const ticksOf = (low, high, n = 4) => {
  const raw = (high - low) / n || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let x = Math.ceil(low / step) * step; x <= high + step * 1e-6; x += step) ticks.push(Number(x.toFixed(10)));
  return ticks;
};
const short = (x) => (Math.abs(x) >= 1e6 ? `${x / 1e6}M` : Math.abs(x) >= 1000 ? `${x / 1000}k` : String(Number(x.toFixed(4))));

function frame(title, subtitle, x, y, draw, { yTick = short, integers } = {}) {
  const px = (v) => PAD.left + ((v - x[0]) / (x[1] - x[0] || 1)) * (W - PAD.left - PAD.right);
  const py = (v) => H - PAD.bottom - ((v - y[0]) / (y[1] - y[0] || 1)) * (H - PAD.top - PAD.bottom);
  const axes = [
    ticksOf(y[0], y[1], 3).map((v) => [svg("line", { class: "grid", x1: PAD.left, x2: W - PAD.right, y1: py(v), y2: py(v) }),
      svg("text", { class: "tick", x: PAD.left - 6, y: py(v) + 4, "text-anchor": "end" }, yTick(v))]),
    ticksOf(x[0], x[1], 5).filter((v) => !integers || Number.isInteger(v)).map((v) => svg("text", { class: "tick", x: px(v), y: H - 8, "text-anchor": "middle" }, short(v))),
  ];
  return h("figure", { class: "card chart" }, h("figcaption", {}, h("strong", {}, title), subtitle && h("span", { class: "soft" }, ` ${subtitle}`)),
    svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title} ${subtitle || ""}` }, axes, draw(px, py)));
}

// Stacked bars of counts by kind between the edges. domain: x axis shared with another chart.
export function histogram(title, subtitle, { edges, counts }, domain) {
  const kinds = Object.keys(KINDS).filter((kind) => counts[kind]);
  const sums = edges.slice(1).map((_, i) => kinds.reduce((sum, kind) => sum + counts[kind][i], 0));
  let last = sums.length;
  while (last > 1 && !sums[last - 1]) last -= 1;
  const top = Math.max(1, ...sums);
  return frame(title, subtitle, domain || [edges[0], edges[last]], [0, top], (px, py) => {
    const bars = [];
    for (let i = 0; i < last; i += 1) {
      let base = 0;
      for (const kind of kinds) {
        const n = counts[kind][i];
        if (!n) continue;
        const x = px(edges[i]);
        bars.push(svg("rect", { class: `fill ${kind}`, x, width: Math.max(0.5, px(edges[i + 1]) - x - 0.4), y: py(base + n), height: Math.max(0, py(base) - py(base + n)) },
          svg("title", {}, `${KINDS[kind]}, ${num(edges[i])} to ${num(edges[i + 1])}: ${count(n)}`)));
        base += n;
      }
    }
    return bars;
  });
}

// series: [[x, y], ...] by name. log: x in powers of two.
export function lines(title, subtitle, series, { y, log, yTick, integers } = {}) {
  const scaled = log ? (v) => Math.log2(Math.max(v, 1e-9)) : (v) => v;
  const points = Object.values(series).flat();
  const xValues = points.map(([v]) => scaled(v));
  const yValues = points.map(([, v]) => v);
  const low = Math.min(...xValues);
  const high = Math.max(...xValues);
  const range = y || [Math.min(...yValues), Math.max(...yValues)];
  const figure = frame(title, subtitle, low === high ? [low - 1, high + 1] : [low, high], range[0] === range[1] ? [range[0] - 0.01, range[1]] : range, (px, py) =>
    Object.entries(series).map(([name, points], place) => [
      svg("polyline", { class: `line l${place}`, points: points.map(([a, b]) => `${px(scaled(a))},${py(b)}`).join(" ") }),
      points.map(([a, b]) => svg("circle", { class: `point l${place}`, cx: px(scaled(a)), cy: py(b), r: 3 }, svg("title", {}, `${name} at ${a}: ${num(b, 4)}`))),
    ]), { yTick, integers });
  figure.append(h("p", { class: "legend" }, Object.keys(series).map((name, place) => h("span", {}, h("i", { class: `key l${place}` }), ` ${name}`))));
  return figure;
}

export function shares(kinds) {
  const total = Object.values(kinds).reduce((sum, n) => sum + n, 0) || 1;
  let from = 0;
  return h("div", { class: "shares" },
    svg("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": "shares of kinds" },
      Object.entries(kinds).map(([kind, n]) => {
        const bar = svg("rect", { class: `fill ${kind}`, x: from, y: 0, height: 6, width: (100 * n) / total });
        from += (100 * n) / total;
        return bar;
      })),
    h("p", { class: "legend" }, Object.entries(kinds).filter(([, n]) => n).map(([kind, n]) =>
      h("span", {}, h("i", { class: `key ${kind}` }), ` ${KINDS[kind]} ${percent(n / total)} (${count(n)})`))));
}
