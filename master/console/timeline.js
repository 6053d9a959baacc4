// What happened, with times: from what follows on what. Pure but for the list that it is shown in.
import { at, make } from "./dom.js";
import { plural } from "./format.js";

const SHOWN = 200;

const BECAME = {
  up: (before) => before === undefined ? ["joined", "good"] : before === "draining" || before === "drained" ? ["takes part again", "good"] : ["is back", "good"],
  draining: () => ["is being drained", "warn"],
  drained: () => ["is drained: it may stop", "good"],
  left: () => ["left", "warn"],
  down: () => ["died", "bad"],
};

// Sentences about what a view changed, each with how good that is.
export function changesOf(view, before) {
  if (!before) return [[`Watched from epoch ${view.epoch} on: ${plural(Object.keys(view.nodes).length, "node")}`, ""]];
  const said = [];
  for (const [node, state] of Object.entries(view.nodes)) {
    const was = before.nodes[node];
    if (was === state || !BECAME[state]) continue;
    const [text, kind] = BECAME[state](was);
    said.push([`${node} ${text}`, kind]);
  }
  for (const node of Object.keys(before.nodes)) if (!(node in view.nodes)) said.push([`${node} was forgotten`, ""]);
  if (view.promoted) said.push([`${plural(view.promoted, "replica")} promoted to primary`, "warn"]);
  if (view.without_primary > before.without_primary) said.push([`${plural(view.without_primary, "partition")} without a primary`, "bad"]);
  if (before.without_primary && !view.without_primary) said.push(["every partition has a primary again", "good"]);
  if (view.moving && !before.moving) said.push(["copies begin to move", ""]);
  if (before.moving && !view.moving) said.push(["nothing moves any more", "good"]);
  if (before.under_replicated && !view.under_replicated) said.push(["every partition has its copies", "good"]);
  if (view.paused !== before.paused) said.push([view.paused ? "rebalancing is paused" : "rebalancing goes on", "warn"]);
  return said;
}

let before = null;

export function noteView(view) {
  for (const [text, kind] of changesOf(view, before)) note(view.epoch, view.at_ms, text, kind);
  before = view;
}

let state = null;

// What /cluster tells that no view does.
export function noteState(now) {
  if (state) {
    const tell = (text, kind) => note(now.epoch, Date.now(), text, kind);
    if (now.controller !== state.controller) tell(now.controller ? `${now.controller} is the controller` : "nobody is the controller", now.controller ? "" : "bad");
    const [masters, were] = [now, state].map((each) => each.masters.map((master) => master.id));
    for (const id of masters) if (!were.includes(id)) tell(`${id} joined`, "good");
    for (const id of were) if (!masters.includes(id)) tell(`${id} is gone`, "bad");
    if (now.restore.active && !state.restore.active) tell(`${plural(now.restore.partitions, "partition")} are being restored from snapshots`, "warn");
    if (!now.restore.active && state.restore.active) tell("restored from snapshots", "good");
  }
  state = now;
}

export function note(epoch, atMs, text, kind = "") {
  const when = new Date(atMs);
  const time = make("time", { text: when.toLocaleTimeString("en-GB"), dateTime: when.toISOString(), title: `${when.toISOString()}, epoch ${epoch}` });
  const list = at("changes");
  list.prepend(make("li", { cls: kind, value: epoch }, time, text));
  while (list.children.length > SHOWN) list.lastChild.remove();
}

export function forgetTimeline() {
  before = state = null;
  at("changes").replaceChildren();
}
