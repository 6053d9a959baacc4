// The table of nodes, and what an operator does with one.
import { at, keyed, make, say } from "./dom.js";
import { bytes, percent, rate, whole } from "./format.js";
import { colourOf } from "./colours.js";
import { guarded } from "./lock.js";
import { drain, forget, undrain } from "./operations.js";
import { Rates } from "./rates.js";

export const rates = new Rates();

const ACTIONS = { up: ["Drain", drain], draining: ["Take back", undrain], drained: ["Take back", undrain], down: ["Forget", forget], left: ["Forget", forget] };

function createRow(node) {
  const cells = {};
  const cell = (name, label, more = {}, ...children) => cells[name] = make("td", { label, ...more }, make("div", {}, ...children));
  const fill = make("div");
  const bar = make("div", { cls: "bar" }, fill);
  const memory = make("span");
  const state = make("span");
  const button = guarded(make("button", { type: "button" }));
  const swatch = make("span", { cls: "swatch" });
  swatch.style.background = colourOf(node.id);
  const root = make("tr", {}, make("th", { scope: "row", label: "node" }, make("div", {}, swatch, node.id)),
    cell("state", "state", {}, state), cell("memory", "memory", {}, memory, bar), cell("ratio", "hit ratio", { cls: "n" }),
    cell("requests", "requests/s", { cls: "n" }), cell("entries", "entries", { cls: "n" }), cell("evictions", "evictions", { cls: "n" }),
    cell("partitions", "partitions"), cell("action", "", {}, button));
  let current = node;
  button.addEventListener("click", () => ACTIONS[current.state]?.[1](current.id));
  const put = (name, text) => say(cells[name].firstChild, text);
  const update = (row) => {
    current = row;
    say(state, row.state);
    state.className = `state state-${row.state}`;
    const usable = row.usable_bytes || row.max_bytes;
    say(memory, `${bytes(row.bytes)} of ${bytes(usable)}`);
    fill.style.width = `${usable ? Math.min(100, 100 * row.bytes / usable) : 0}%`;
    const [reads, misses, writes] = ["hits", "misses", "writes"].map((name) => rates.perSecond(row.id, name));
    put("ratio", percent(rates.ratio(row.id, "hits", "misses") ?? (row.hits + row.misses ? row.hits / (row.hits + row.misses) : null)));
    put("requests", reads === null ? "–" : rate(reads + misses + writes));
    put("entries", whole(row.entries));
    put("evictions", whole(row.evictions));
    put("partitions", `${row.primaries} + ${row.replicas}${row.filling ? ` (${row.filling} being filled)` : ""}`);
    const action = ACTIONS[row.state];
    button.hidden = !action;
    if (action) {
      say(button, action[0]);
      button.ariaLabel = `${action[0]} ${row.id}`;
    }
  };
  return { root, update };
}

const show = keyed(at("nodes"), (node) => node.id, createRow);

export function showNodes(nodes) {
  for (const node of nodes) rates.note(node.id, node.incarnation, node);
  show(nodes);
}
