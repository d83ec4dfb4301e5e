// Sign in to a server with a token; the browser stores it in a cookie that no script can read.

import { fill, h } from "./dom.js";

export function signIn(place, onSuccess) {
  const field = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const message = h("p", { class: "soft", role: "alert" });
  async function send(event) {
    event.preventDefault();
    const headers = { authorization: `Bearer ${field.value}` };
    try {
      const response = await fetch("session", { method: "POST", headers });
      if (response.ok) onSuccess();
      else message.textContent = "This is not the token.";
    } catch {
      message.textContent = "The server does not respond, or the token has invalid characters.";
    }
  }
  fill(
    place,
    h("form", { class: "empty sign", onsubmit: send },
      h("p", { class: "big" }, "This server requires a token"),
      h("p", {}, "It is in the file given to ", h("code", {}, "remine serve --token-file"), "."),
      h("label", { for: "token" }, "Token"),
      h("div", { class: "line" }, field, h("button", { type: "submit", class: "main" }, "Sign in")),
      message),
  );
  field.focus();
}
