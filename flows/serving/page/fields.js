// Filters: a label with its completions, selects, switches, numbers; pages.

import { ask } from "./api.js";
import { count, fill, h, later, newId } from "./dom.js";

export function labelField(name, said, value, onpick) {
  const list = newId("labels");
  const options = h("datalist", { id: list });
  const complete = later(async (text) => {
    try {
      const found = await ask("labels", { params: { contains: text, limit: 30 } });
      fill(options, found.labels.map((one) => h("option", { value: one.label }, count(one.items))));
    } catch {
      // Completion is a help; the filter says what is wrong.
    }
  }, 150);
  const input = h("input", {
    type: "search", name, value: value || "", list, placeholder: "any", autocomplete: "off",
    onfocus: () => complete(input.value), oninput: () => complete(input.value),
    onchange: () => onpick(input.value.trim()),
  });
  return h("label", { class: "field" }, h("span", {}, said), input, options);
}

export function choice(name, said, value, options, onpick) {
  const select = h("select", { name, onchange: () => onpick(select.value) },
    options.map(([code, text]) => h("option", { value: code }, text)));
  select.value = value ?? "";
  return h("label", { class: "field" }, h("span", {}, said), select);
}

export function number(name, said, value, { min, max, step, placeholder }, onpick) {
  const input = h("input", {
    type: "number", name, value: value ?? "", min, max, step, placeholder, inputmode: "decimal",
    onchange: () => (input.reportValidity() ? onpick(input.value) : null),
  });
  return h("label", { class: "field small" }, h("span", {}, said), input);
}

export function range(name, said, low, high, step, onpick) {
  const field = (end, value, word) => {
    const input = h("input", {
      type: "number", value: value ?? "", step, placeholder: word, "aria-label": `${said}, ${word}`,
      name: `${name}_${end}`, onchange: () => onpick(`${name}_${end}`, input.value),
    });
    return input;
  };
  return h("fieldset", { class: "field range" }, h("legend", {}, said),
    field("min", low, "from"), field("max", high, "to"));
}

export function flag(name, said, checked, onpick, title) {
  const input = h("input", { type: "checkbox", name, checked, onchange: () => onpick(input.checked) });
  return h("label", { class: "flag", title }, input, h("span", {}, said));
}

export function text(name, said, value, onpick) {
  const input = h("input", { type: "search", name, value: value || "", placeholder: "any", onchange: () => onpick(input.value.trim()) });
  return h("label", { class: "field" }, h("span", {}, said), input);
}

export const SPLITS = [["", "any"], ["train", "train"], ["val", "val"], ["test", "test"]];

// offset, limit and total as "1 to 25 of 1,000,000", with buttons.
export function pages(offset, limit, total, go) {
  const last = Math.min(total, offset + limit);
  const button = (key, text, to, off) =>
    h("button", { type: "button", "data-page": key, disabled: off, onclick: () => go(to) }, text);
  return h("div", { class: "pages" },
    h("span", { class: "soft" }, total ? `${count(offset + 1)} to ${count(last)} of ${count(total)}` : "none"),
    button("p", "‹ Before", Math.max(0, offset - limit), offset <= 0),
    button("n", "Next ›", offset + limit, last >= total));
}
