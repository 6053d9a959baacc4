// How snapshots go, and one now.
import { at, say } from "./dom.js";
import { bytes, duration, plural } from "./format.js";
import { ask, askJson } from "./http.js";
import { attempt } from "./operations.js";

const LOOKS = 120;

export async function refreshSnapshots(signal) {
  try {
    const found = await askJson("/snapshots?files=0", signal);
    say(at("snapshots-text"), describe(found));
  } catch (error) {
    if (!error.right) throw error;
    say(at("snapshots-text"), `To see them takes a token with the right “${error.right}”.`);
    return false;
  }
}

function describe(found) {
  const ends = found.nodes.map((node) => node.last_success).filter(Boolean).map(Date.parse);
  const last = ends.length ? `the oldest of the nodes' last ones was whole ${duration(Math.max(0, Date.now() - Math.min(...ends)) / 1000)} ago` : "none is whole yet";
  const failed = found.nodes.filter((node) => node.last_error).map((node) => ` ${node.id}: ${node.last_error}.`).join("");
  const interval = found.nodes[0]?.interval_s;
  return `${bytes(found.bytes)} of ${plural(found.partitions - found.without, "partition")}; ${last}` +
    `${interval ? `, one every ${duration(interval)}` : ""}. ${found.damaged.length ? `${plural(found.damaged.length, "section")} damaged.` : ""}${failed}`;
}

async function take() {
  const note = (text) => say(at("snapshot-note"), text);
  await attempt(async () => {
    let progress = await askJson("/snapshots", null, { method: "POST" });
    for (let look = 0; progress.status === "running" && look < LOOKS; look++) {
      const sum = (name) => Object.values(progress.nodes).reduce((total, node) => total + (node[name] ?? 0), 0);
      note(`${sum("written")} of ${plural(sum("partitions"), "partition")}`);
      await new Promise((resolve) => { setTimeout(resolve, 500); });
      progress = await askJson(`/snapshots/${progress.id}`, null);
    }
    note(progress.status === "done" ? "Taken." : progress.status === "failed" ? "It failed: see the list of nodes above." : "It still runs.");
  }, note);
}

export const startSnapshots = () => at("snapshot").addEventListener("click", take);
