// What can change while the cluster runs, what it is, and where that comes from. `ringmaster settings set` changes it.
import { at, keyed, make, say } from "./dom.js";
import { bytes, duration, plural } from "./format.js";
import { askJson } from "./http.js";

const show = keyed(at("settings"), (row) => row.name, (row) => {
  const cells = ["value", "from", "of"].map((label) => make("td", { label }, make("div")));
  const root = make("tr", {}, make("th", { scope: "row", label: "setting", title: row.description }, make("div", { text: row.name })), ...cells);
  const update = (now) => [value(now.value, now.unit), source(now), now.applies_to].forEach((text, place) => say(cells[place].firstChild, text));
  return { root, update };
});

export function value(found, unit) {
  if (found === null) return "–";
  if (found === "") return "none";
  if (unit.startsWith("bytes")) return bytes(found) + unit.slice("bytes".length);
  return unit === "s" ? duration(found) : String(found);
}

export function source(row) {
  const differing = Object.entries(row.differing).map(([id, started]) => `${id} ${value(started, row.unit)}`).join(", ");
  if (row.source !== "run time") return differing ? `${row.source}: ${differing}` : row.source;
  return `run time, started with ${differing || value(row.started, row.unit)}`;
}

export async function refreshSettings(signal) {
  const { settings: rows, processes } = await askJson("/cluster/settings", signal);
  show(rows);
  const changed = rows.filter((row) => row.source === "run time").length;
  const late = processes.filter((each) => !each.follows).map((each) => each.id);
  say(at("settings-text"), `${changed ? `${plural(changed, "setting")} changed` : "As processes were started"}. ${late.length ? `Not known to follow: ${late.join(", ")}.` : "All processes follow."}`);
}

export function forgetSettings() {
  show([]);
  say(at("settings-text"), "…");
}
