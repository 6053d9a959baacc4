// Keys as a tree by `/` and `:`, from pages of a listing. Pure.

const SEPARATOR = /[/:]/;

// What lies directly below `prefix`: { folders: [{prefix, count}], keys: [] }.
export function level(keys, prefix) {
  const folders = new Map();
  const here = [];
  for (const key of keys) {
    const rest = key.slice(prefix.length);
    const cut = rest.search(SEPARATOR);
    if (cut < 0 || cut === rest.length - 1 && rest.length === 1) { here.push(key); continue; }
    const below = prefix + rest.slice(0, cut + 1);
    folders.set(below, (folders.get(below) ?? 0) + 1);
  }
  const sorted = [...folders].map(([below, count]) => ({ prefix: below, count })).sort((a, b) => a.prefix < b.prefix ? -1 : 1);
  return { folders: sorted, keys: here.sort() };
}
