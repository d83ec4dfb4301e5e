// A pad to draw a query on, with the mouse, a pen or a finger.

import { fetchJson } from "./api.js";
import { h } from "./dom.js";

const SIDE = 256;

// Paper and ink as in the items: the corner pixel of the first item is taken for the background.
async function paperAndInk() {
  try {
    const page = await fetchJson("items", { params: { limit: 1 } });
    const picture = new Image();
    picture.src = page.items[0].thumbnail;
    await picture.decode();
    const canvas = h("canvas", { width: 1, height: 1 });
    const brush = canvas.getContext("2d");
    brush.drawImage(picture, 0, 0, 1, 1, 0, 0, 1, 1);
    return brush.getImageData(0, 0, 1, 1).data[0] > 127 ? ["#fff", "#000"] : ["#000", "#fff"];
  } catch {
    return ["#fff", "#000"];
  }
}

export async function openDrawingPad(onDrawn) {
  const [paper, ink] = await paperAndInk();
  const canvas = h("canvas", { width: SIDE, height: SIDE, class: "pad", "aria-label": "Drawing pad" });
  const brush = canvas.getContext("2d");
  const clear = () => {
    brush.fillStyle = paper;
    brush.fillRect(0, 0, SIDE, SIDE);
  };
  clear();
  Object.assign(brush, { strokeStyle: ink, lineWidth: 18, lineCap: "round", lineJoin: "round" });
  const position = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    brush.beginPath();
    brush.moveTo(...position(event));
    brush.lineTo(...position(event));
    brush.stroke();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    brush.lineTo(...position(event));
    brush.stroke();
  });
  const send = () => canvas.toBlob((blob) => {
    dialog.close();
    onDrawn(new File([blob], "drawing.png", { type: "image/png" }));
  });
  const dialog = h("dialog", { class: "help", "aria-label": "Draw" }, h("h2", {}, "Draw a picture"), canvas,
    h("div", { class: "line" },
      h("button", { type: "button", class: "main", onclick: send }, "Search"),
      h("button", { type: "button", onclick: clear }, "Clear"),
      h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
