// Light and dark: as the system has it, or as chosen here.
import { at } from "./dom.js";

const KEPT = "ringmaster-theme";

export function startTheme(changed) {
  const choice = at("theme");
  const show = () => { document.documentElement.dataset.theme = choice.value; changed(); };
  choice.value = localStorage.getItem(KEPT) ?? "";
  choice.addEventListener("change", () => {
    if (choice.value) localStorage.setItem(KEPT, choice.value);
    else localStorage.removeItem(KEPT);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  show();
}
