// Changes of the cluster. Each is told beforehand what it would take, and asked about.
import { at, say } from "./dom.js";
import { confirmed } from "./dialog.js";
import { bytes, duration, plural, whole } from "./format.js";
import { ask, askJson } from "./http.js";

const note = (text) => say(at("node-note"), text);

// A change that is refused says why, and nothing else happens.
export async function attempt(change, tell) {
  try {
    await change();
  } catch (error) {
    if (error.name === "AbortError") return;
    tell(error.right ? `The right “${error.right}” is missing: ${error.message}` : `Not done: ${error.message}`);
  }
}

export const drain = (id) => attempt(async () => {
  const path = `/cluster/nodes/${encodeURIComponent(id)}/drain`;
  const forecast = await askJson(`${path}?dry_run=1`, null, { method: "POST" });
  const risk = forecast.too_few_copies === 0 ? "" : forecast.lost
    ? `${plural(forecast.lost, "partition")} would have no copy left: this drain does not end until another node is there.`
    : `${plural(forecast.too_few_copies, "partition")} would have too few copies. Do it all the same.`;
  const sure = await confirmed({
    title: `Drain ${id}?`,
    pairs: [["copies to move", whole(forecast.copies)], ["bytes to move", bytes(forecast.bytes)], ["takes about", duration(forecast.seconds)],
      ["nodes left", whole(forecast.stay)], ["copies at risk", whole(forecast.too_few_copies)]],
    risk,
    action: "Drain",
  });
  if (!sure) return note("");
  await ask(risk ? `${path}?force=1` : path, null, { method: "POST" });
  note(`${id} is being drained.`);
}, note);

export const undrain = (id) => attempt(async () => {
  await ask(`/cluster/nodes/${encodeURIComponent(id)}/drain`, null, { method: "DELETE" });
  note(`${id} takes part again.`);
}, note);

export const forget = (id) => attempt(async () => {
  const sure = await confirmed({ title: `Forget ${id}?`, pairs: [["then", "it is no longer listed; started again, it joins as a new node"]], action: "Forget" });
  if (!sure) return;
  await ask(`/cluster/nodes/${encodeURIComponent(id)}`, null, { method: "DELETE" });
  note(`${id} is forgotten.`);
}, note);

let paused = false;

export function showPaused(now) {
  paused = now;
  say(at("pause"), paused ? "Resume" : "Pause");
}

export function startOperations() {
  at("pause").addEventListener("click", () =>
    attempt(() => ask(`/cluster/rebalance/${paused ? "resume" : "pause"}`, null, { method: "POST" }), note));
}
