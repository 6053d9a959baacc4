// A colour for each node, the same wherever it is shown.

const PALETTE = ["#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#14b8a6", "#ec4899", "#84cc16", "#f97316", "#64748b"];

const given = new Map();

export function colourOf(node) {
  if (!given.has(node)) {
    const number = given.size;
    given.set(node, PALETTE[number] ?? `hsl(${Math.round(number * 137.5) % 360} 65% 50%)`);
  }
  return given.get(node);
}
