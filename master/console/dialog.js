// Are you sure? With what it would do, and a box to tick where it would do harm.
import { at, facts } from "./dom.js";

// Resolves to whether it is to be done.
export function confirmed({ title, pairs = [], risk = "", action }) {
  const dialog = at("dialog");
  at("dialog-title").textContent = title;
  facts(at("dialog-facts"), pairs);
  at("dialog-sure").hidden = !risk;
  at("dialog-risk").textContent = risk;
  at("dialog-check").checked = false;
  at("dialog-yes").textContent = action;
  at("dialog-yes").disabled = Boolean(risk);
  dialog.returnValue = "";
  dialog.showModal();
  at("dialog-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

export function forgetDialog() {
  at("dialog").close();
  facts(at("dialog-facts"), []);
  for (const id of ["dialog-title", "dialog-risk"]) at(id).textContent = "";
}

export function startDialog() {
  at("dialog-check").addEventListener("change", () => { at("dialog-yes").disabled = !at("dialog-check").checked; });
}
