// Elements, and what is shown in them. Text from the cluster goes into textContent and nowhere else.

export const at = (id) => document.getElementById(id);

export function make(name, { text, cls, label, ...more } = {}, ...children) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (cls) made.className = cls;
  if (label) made.dataset.label = label;
  Object.assign(made, more);
  made.append(...children);
  return made;
}

// Only what differs is touched, so that a screen reader hears a status once.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Shows a list that changes, and keeps the element of each item, so that focus stays where it is.
// `create(item)` returns { root, update(item) }.
export function keyed(parent, keyOf, create) {
  const shown = new Map();
  return (items) => {
    const wanted = new Set(items.map(keyOf));
    for (const [key, each] of shown) {
      if (!wanted.has(key)) { each.root.remove(); shown.delete(key); }
    }
    items.forEach((item, place) => {
      const key = keyOf(item);
      if (!shown.has(key)) shown.set(key, create(item));
      const { root, update } = shown.get(key);
      update(item);
      if (parent.children[place] !== root) parent.insertBefore(root, parent.children[place] ?? null);
    });
  };
}

export function facts(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, text]) => [make("dt", { text: name }), make("dd", { text })]));
}

// The colour that a variable of the style sheet has at present.
export function colour(name) {
  const probe = make("span", { hidden: true });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
