// Nothing can be changed by this page until its reader says so.
import { at } from "./dom.js";

const apply = () => {
  for (const each of document.querySelectorAll("[data-change]")) each.disabled = !at("unlock").checked;
};

export function startLock() {
  at("unlock").addEventListener("change", apply);
  lock();
}

export function lock() {
  at("unlock").checked = false;
  apply();
}

// For a button that is made later.
export function guarded(button) {
  button.dataset.change = "";
  button.disabled = !at("unlock").checked;
  return button;
}
