// A pad to draw a character on, with the mouse, a pen or a finger.

import { ask } from "./api.js";
import { h } from "./dom.js";

const SIDE = 256;

// Dark on light or light on dark, as the items are: the corner of one tells.
async function ground() {
  try {
    const one = await ask("items", { params: { limit: 1 } });
    const picture = new Image();
    picture.src = one.items[0].thumbnail;
    await picture.decode();
    const canvas = h("canvas", { width: 1, height: 1 });
    const brush = canvas.getContext("2d");
    brush.drawImage(picture, 0, 0, 1, 1, 0, 0, 1, 1);
    return brush.getImageData(0, 0, 1, 1).data[0] > 127 ? ["#fff", "#000"] : ["#000", "#fff"];
  } catch {
    return ["#fff", "#000"];
  }
}

export async function drawing(_index, done) {
  const [paper, ink] = await ground();
  const canvas = h("canvas", { width: SIDE, height: SIDE, class: "pad", "aria-label": "Drawing pad" });
  const brush = canvas.getContext("2d");
  const clear = () => {
    brush.fillStyle = paper;
    brush.fillRect(0, 0, SIDE, SIDE);
  };
  clear();
  Object.assign(brush, { strokeStyle: ink, lineWidth: 18, lineCap: "round", lineJoin: "round" });
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    brush.beginPath();
    brush.moveTo(...at(event));
    brush.lineTo(...at(event));
    brush.stroke();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    brush.lineTo(...at(event));
    brush.stroke();
  });
  const send = () => canvas.toBlob((blob) => {
    box.close();
    done(new File([blob], "a drawing.png", { type: "image/png" }));
  });
  const box = h("dialog", { class: "help", "aria-label": "Draw" }, h("h2", {}, "Draw a character"), canvas,
    h("div", { class: "line" },
      h("button", { type: "button", class: "main", onclick: send }, "Search"),
      h("button", { type: "button", onclick: clear }, "Clear"),
      h("button", { type: "button", onclick: () => box.close() }, "Cancel")));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}
