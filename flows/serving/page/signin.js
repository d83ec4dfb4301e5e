// A server with a token: ask for it once; the browser keeps a cookie that no script can read.

import { fill, h } from "./dom.js";

export function signIn(place, done) {
  const field = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const said = h("p", { class: "soft", role: "alert" });
  async function send(event) {
    event.preventDefault();
    const headers = { authorization: `Bearer ${field.value}` };
    try {
      const answer = await fetch("session", { method: "POST", headers });
      if (answer.ok) done();
      else said.textContent = "This is not the token.";
    } catch {
      said.textContent = "The server does not answer, or the token has odd characters.";
    }
  }
  fill(
    place,
    h("form", { class: "empty sign", onsubmit: send },
      h("p", { class: "big" }, "This server asks for its token"),
      h("p", {}, "It stands in the file that was given to ", h("code", {}, "remine serve --token-file"), "."),
      h("label", { for: "token" }, "Token"),
      h("div", { class: "line" }, field, h("button", { type: "submit", class: "main" }, "Sign in")),
      said),
  );
  field.focus();
}
