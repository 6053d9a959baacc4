// The keys that are read most.
import { at, keyed, make, say } from "./dom.js";
import { rate } from "./format.js";
import { askJson } from "./http.js";
import { openKey } from "./explorer.js";

const MOST = 10;

const show = keyed(at("hot"), (row) => row.key, (row) => {
  const open = make("button", { type: "button", cls: "key", text: row.key });
  open.addEventListener("click", () => openKey(row.key));
  const cells = ["reads/s", "node", "copies"].map((label, place) => make("td", { label, cls: place === 1 ? "" : "n" }, make("div")));
  const root = make("tr", {}, make("th", { scope: "row", label: "key" }, make("div", {}, open)), ...cells);
  const update = (now) => [rate(now.reads_per_s), now.node, String(now.copies)].forEach((text, place) => say(cells[place].firstChild, text));
  return { root, update };
});

export async function refreshHot(signal) {
  const { hot_keys: rows, unreachable } = await askJson(`/cluster/hotkeys?limit=${MOST}`, signal);
  show(rows);
  say(at("hot-note"), unreachable.length ? `No answer from ${unreachable.join(", ")}.` : rows.length ? "" : "No key is read often just now.");
}

export const forgetHot = () => show([]);
