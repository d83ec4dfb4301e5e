// The address after the #: a view and what it shows, so that every state is a link.

export function address(hash = location.hash) {
  const [view, rest] = hash.replace(/^#\/?/, "").split("?");
  return { view: view || "search", params: new URLSearchParams(rest || "") };
}

export function link(view, values) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(values || {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "" && one !== false) params.append(name, one);
    }
  }
  const text = params.toString();
  return `#/${view}${text ? `?${text}` : ""}`;
}

export function go(view, values) {
  const to = link(view, values);
  if (to === location.hash) dispatchEvent(new Event("hashchange"));
  else location.hash = to;
}

// What the address says now, with some values replaced; an empty one is left out.
export function changed(params, values) {
  const whole = {};
  for (const name of new Set(params.keys())) whole[name] = params.getAll(name);
  return { ...whole, ...values };
}
