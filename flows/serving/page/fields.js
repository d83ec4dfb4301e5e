// Form fields of filters, and the pager.

import { fetchJson } from "./api.js";
import { count, debounce, fill, h, uniqueId } from "./dom.js";

export function labelField(name, title, value, onchange) {
  const list = uniqueId("labels");
  const options = h("datalist", { id: list });
  const complete = debounce(async (text) => {
    try {
      const page = await fetchJson("labels", { params: { contains: text, limit: 30 } });
      fill(options, page.labels.map(({ label, items }) => h("option", { value: label }, count(items))));
    } catch {
      // Completion is optional: applying the filter reports the error.
    }
  }, 150);
  const input = h("input", {
    type: "search", name, value: value || "", list, placeholder: "any", autocomplete: "off",
    onfocus: () => complete(input.value), oninput: () => complete(input.value),
    onchange: () => onchange(input.value.trim()),
  });
  return h("label", { class: "field" }, h("span", {}, title), input, options);
}

export function choice(name, title, value, options, onchange) {
  const select = h("select", { name, onchange: () => onchange(select.value) },
    options.map(([code, text]) => h("option", { value: code }, text)));
  select.value = value ?? "";
  return h("label", { class: "field" }, h("span", {}, title), select);
}

export function number(name, title, value, { min, max, step, placeholder, title: hint }, onchange) {
  const input = h("input", {
    type: "number", name, value: value ?? "", min, max, step, placeholder, inputmode: "decimal",
    onchange: () => (input.reportValidity() ? onchange(input.value) : null),
  });
  return h("label", { class: "field small", title: hint }, h("span", {}, title), input);
}

export function range(name, title, low, high, step, onchange) {
  const field = (end, value, placeholder) => {
    const input = h("input", {
      type: "number", value: value ?? "", step, placeholder, "aria-label": `${title}, ${placeholder}`,
      name: `${name}_${end}`, onchange: () => onchange(`${name}_${end}`, input.value),
    });
    return input;
  };
  return h("fieldset", { class: "field range" }, h("legend", {}, title),
    field("min", low, "from"), field("max", high, "to"));
}

export function flag(name, title, checked, onchange) {
  const input = h("input", { type: "checkbox", name, checked, onchange: () => onchange(input.checked) });
  return h("label", { class: "flag" }, input, h("span", {}, title));
}

export function text(name, title, value, onchange) {
  const input = h("input", { type: "search", name, value: value || "", placeholder: "any", onchange: () => onchange(input.value.trim()) });
  return h("label", { class: "field" }, h("span", {}, title), input);
}

export const SPLITS = [["", "any"], ["train", "train"], ["val", "val"], ["test", "test"], ["unknown", "unknown"]];

// offset, limit and total as "1 to 25 of 1,000,000", with buttons.
export function pager(offset, limit, total, go) {
  const last = Math.min(total, offset + limit);
  const button = (key, text, target, disabled) =>
    h("button", { type: "button", "data-page": key, disabled, onclick: () => go(target) }, text);
  return h("div", { class: "pages" },
    h("span", { class: "soft" }, total ? `${count(offset + 1)} to ${count(last)} of ${count(total)}` : "none"),
    button("p", "‹ Previous", Math.max(0, offset - limit), offset <= 0),
    button("n", "Next ›", offset + limit, last >= total));
}
