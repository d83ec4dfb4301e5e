// The address after the #: a view and its parameters, so that every state of the page is a link.

import { query } from "./api.js";

export function address(hash = location.hash) {
  const [view, search] = hash.replace(/^#\/?/, "").split("?");
  return { view: view || "search", params: new URLSearchParams(search || "") };
}

export const link = (view, values) => `#/${view}${query(values)}`;

export function go(view, values) {
  const target = link(view, values);
  if (target === location.hash) dispatchEvent(new Event("hashchange"));
  else location.hash = target;
}

// The parameters of the address with some values replaced; empty ones are left out of a link.
export function withValues(params, values) {
  const current = {};
  for (const name of new Set(params.keys())) current[name] = params.getAll(name);
  return { ...current, ...values };
}
