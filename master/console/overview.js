// The whole cluster at a glance: tiles, reasons, masters, and how far copies are from where they should be.
import { at, keyed, make, say } from "./dom.js";
import { bytes, duration, percent, plural, rate, whole } from "./format.js";
import { rates } from "./nodes.js";
import { showPaused } from "./operations.js";

const showTiles = keyed(at("tiles"), ([name]) => name, ([name]) => {
  const value = make("dd");
  return { root: make("div", {}, make("dt", { text: name }), value), update: ([, text]) => say(value, text) };
});

const showMasters = keyed(at("masters"), (master) => master.id, (master) => {
  const badge = make("span", { cls: "badge", text: "controller" });
  const root = make("li", {}, `${master.id} · ${master.address} · pid ${master.pid} `, badge);
  return { root, update: (row) => { badge.hidden = !row.controls; } };
});

const sum = (nodes, name) => nodes.reduce((total, node) => total + (node[name] ?? 0), 0);

// Of the nodes together, lately.
function recent(nodes, name) {
  return nodes.reduce((total, node) => total + (rates.perSecond(node.id, name) ?? 0), 0);
}

// The most that was to be done since nothing was: the whole of the bar.
const most = { moves: 0, restore: 0 };

export function showOverview(state) {
  const { nodes, rebalance, restore } = state;
  say(at("health"), `${state.health} · epoch ${state.epoch} · ${state.partitions} partitions · ${state.replicas} copies` +
    (rebalance.active ? ` · moving ${rebalance.moving}` : ""));
  at("health").dataset.health = state.health;
  at("reasons").replaceChildren(...state.reasons.map((text) => make("li", { text })));
  const [hits, misses, writes] = ["hits", "misses", "writes"].map((name) => recent(nodes, name));
  showTiles([["Reads/s", rate(hits + misses)], ["Writes/s", rate(writes)],
    ["Hit ratio", percent(hits + misses ? hits / (hits + misses) : null)],
    ["Entries, all copies", whole(sum(nodes, "entries"))], ["Memory", bytes(sum(nodes, "bytes"))],
    ["Evictions/s", rate(recent(nodes, "evictions"))], ["Nodes up", `${nodes.filter((node) => node.state === "up").length} of ${nodes.length}`],
    ["Too few copies", whole(state.under_replicated)]]);
  showMasters(state.masters.map((master) => ({ ...master, controls: master.id === state.controller })));
  showMoves(rebalance, state.under_replicated);
  showRestore(restore);
  showPaused(rebalance.paused);
}

export function forgetOverview() {
  showTiles([]);
  showMasters([]);
  for (const id of ["moves-text", "restore-text"]) say(at(id), "");
}

function showMoves(rebalance, lacking) {
  const left = Math.max(rebalance.moving, lacking);
  most.moves = left ? Math.max(most.moves, left) : 0;
  at("moves").value = left ? 1 - left / most.moves : 1;
  const end = rebalance.eta_s ? `, about ${duration(rebalance.eta_s)} left` : "";
  say(at("moves-text"), (left ? `${plural(rebalance.moving, "copy", "copies")} moving, ${whole(lacking)} partitions with too few${end}.`
    : "Every copy is where it belongs.") + (rebalance.paused ? " Paused." : "") +
    ` Moved so far: ${plural(rebalance.moved_keys, "key")}, ${bytes(rebalance.moved_bytes)}.`);
}

function showRestore(restore) {
  most.restore = restore.active ? Math.max(most.restore, restore.partitions) : 0;
  say(at("restore-text"), restore.active
    ? `Restoring from snapshots: ${most.restore - restore.partitions} of ${plural(most.restore, "partition")}, ${plural(restore.entries, "entry", "entries")} so far.`
    : restore.entries ? `Restored from snapshots: ${plural(restore.entries, "entry", "entries")}.` : "Nothing is being restored.");
}
