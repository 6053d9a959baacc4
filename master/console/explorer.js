// Keys: listed as a tree, located, read, written, deleted. A listing is a page, and says so.
import { at, facts, make, say } from "./dom.js";
import { confirmed } from "./dialog.js";
import { bytes, duration, plural, whole } from "./format.js";
import { ask, askJson } from "./http.js";
import { attempt } from "./operations.js";
import { level } from "./tree.js";

const PAGE = 1000;
const SHOWN_KEYS = 200;
const MOST_BYTES = 256 * 1024;
const query = (values) => new URLSearchParams(values).toString();

// One page of what begins with `prefix`, added to `known`, put into `list`.
async function fill(list, prefix, known, cursor, tell) {
  const page = await askJson(`/data?${query({ prefix, limit: PAGE, ...(cursor && { cursor }) })}`);
  const keys = [...known, ...page.keys];
  const { folders, keys: here } = level(keys, prefix);
  list.replaceChildren(...folders.map((folder) => folderItem(folder, prefix, Boolean(page.cursor))), ...here.slice(0, SHOWN_KEYS).map((key) => keyItem(key, prefix)));
  if (here.length > SHOWN_KEYS) list.append(make("li", { cls: "muted", text: `and ${plural(here.length - SHOWN_KEYS, "more key")}` }));
  if (page.cursor) {
    const further = make("button", { type: "button", text: "Look further" });
    further.addEventListener("click", () => attempt(() => fill(list, prefix, keys, page.cursor, tell), tell));
    list.append(make("li", {}, further));
  }
  tell(page.cursor ? `A sample: ${plural(keys.length, "key")} looked at, there are more.` : `All of them: ${plural(keys.length, "key")}.`);
}

function folderItem(folder, prefix, sampled) {
  const list = make("ul");
  const tell = (text) => say(note, text);
  const note = make("span", { cls: "muted" });
  const box = make("details", {}, make("summary", { text: `${folder.prefix.slice(prefix.length)} (${whole(folder.count)}${sampled ? "+" : ""})` }), note, list);
  box.addEventListener("toggle", () => { if (box.open) attempt(() => fill(list, folder.prefix, [], null, tell), tell); });
  return make("li", {}, box);
}

function keyItem(key, prefix) {
  const button = make("button", { type: "button", cls: "key", text: key.slice(prefix.length) || key, title: key });
  button.addEventListener("click", () => openKey(key));
  return make("li", {}, button);
}

let opened = "";
// Of its value.
let openedBytes = 0;

export function openKey(key) {
  at("key").value = key;
  return attempt(() => locate(key), (text) => say(at("key-note"), text));
}

function hideEntry() {
  for (const id of ["entry", "value-buttons", "value"]) at(id).hidden = true;
  at("value").textContent = "";
  at("entry").replaceChildren();
  opened = "";
}

async function locate(key) {
  hideEntry();
  const found = await askJson(`/cluster/locate?${query({ key, meta: 1 })}`);
  const { entry } = found;
  opened = key;
  openedBytes = entry?.value_bytes ?? 0;
  const place = [["partition", String(found.partition)], ["primary", found.primary ?? "none"], ["replicas", found.replicas.join(", ") || "none"]];
  const about = entry ? [["type", entry.content_type], ["size", bytes(entry.value_bytes)], ["version", entry.version],
    ["lives", entry.ttl === null ? "for ever" : entry.stale ? "no more; it is served stale" : `${duration(entry.ttl)} more`], ["tags", entry.tags.join(", ") || "none"]] : [];
  facts(at("entry"), [["key", key], ...place, ...about]);
  at("entry").hidden = false;
  at("value-buttons").hidden = !entry;
  say(at("key-note"), entry ? "" : "There is no such key.");
}

async function showValue() {
  const reply = await ask(`/data?${query({ key: opened })}`, null, { headers: { Accept: "*/*" } });
  const size = Number(reply.headers.get("Content-Length"));
  if (size > MOST_BYTES) {
    await reply.body.cancel();
    return say(at("key-note"), `${bytes(size)} are too many to show; fetch it with curl.`);
  }
  const text = readable(new Uint8Array(await reply.arrayBuffer()));
  // A value that was POSTed comes with its key around it. Quotes in the key are escaped, so this is the first that are not.
  const begin = size > openedBytes && text.startsWith('{"key":"') ? text.indexOf('","value":') : -1;
  at("value").textContent = begin < 0 ? text : text.slice(begin + 10, -1);
  at("value").hidden = false;
}

// Text if it is text, else the bytes in hexadecimal.
function readable(content) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    return [...content.subarray(0, 4096)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }
}

async function write(key) {
  const [text, ttl] = [at("put-value").value, at("put-ttl").value.trim()];
  const tags = at("put-tags").value.split(",").map((tag) => tag.trim()).filter(Boolean);
  if (at("put-as").value === "json") {
    JSON.parse(text);
    const more = `${ttl ? `,"ttl":${JSON.stringify(Number(ttl))}` : ""}${tags.length ? `,"tags":${JSON.stringify(tags)}` : ""}`;
    // The value as it was typed: to parse and print it would change large numbers.
    const body = `{"key":${JSON.stringify(key)},"value":${text}${more}}`;
    await ask("/data", null, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  } else {
    const parameters = new URLSearchParams([["key", key], ...(ttl ? [["ttl", ttl]] : []), ...tags.map((tag) => ["tag", tag])]);
    await ask(`/data?${parameters}`, null, { method: "PUT", headers: { "Content-Type": "text/plain; charset=utf-8" }, body: text });
  }
  await locate(key);
  say(at("key-note"), "Written.");
}

async function remove() {
  const key = opened;
  if (!await confirmed({ title: "Delete this key?", pairs: [["key", key]], action: "Delete" })) return;
  await ask(`/data?${query({ key })}`, null, { method: "DELETE" });
  hideEntry();
  say(at("key-note"), "Deleted.");
}

export function startExplorer() {
  const tell = (text) => say(at("key-note"), text);
  const submitted = (id, act, told) => at(id).addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(act, told);
  });
  const listed = (text) => say(at("list-note"), text);
  submitted("list", () => fill(at("tree"), at("prefix").value, [], null, listed), listed);
  submitted("look", () => locate(at("key").value), tell);
  submitted("put", () => write(at("key").value), tell);
  at("show").addEventListener("click", () => attempt(showValue, tell));
  at("delete").addEventListener("click", () => attempt(remove, tell));
}

export function forgetKeys() {
  hideEntry();
  at("tree").replaceChildren();
  for (const id of ["prefix", "key", "put-value", "put-ttl", "put-tags"]) at(id).value = "";
  for (const id of ["list-note", "key-note"]) say(at(id), "");
}
