// The map of partitions: one cell each, coloured by its primary.
import { at, colour, make, say } from "./dom.js";
import { colourOf } from "./colours.js";
import { askJson } from "./http.js";

const HINT = "Point at a partition, or use the arrow keys.";
const GAP = 1;
// Pixels that the side of a cell has at least, so that they fill whole rows: there is a power of two of them.
const LEAST = 8;
const canvas = at("map");
const pen = canvas.getContext("2d");
let table = null;
let columns = 1, size = 1, chosen = -1;

export const shownEpoch = () => table?.epoch ?? -1;

export async function refreshPartitions(signal) {
  table = await askJson("/cluster/partitions", signal);
  drawPartitions();
}

export function forgetPartitions() {
  table = null;
  chosen = -1;
  at("legend").replaceChildren();
  say(at("map-text"), HINT);
  pen.clearRect(0, 0, canvas.width, canvas.height);
}

export function drawPartitions() {
  if (!table || !canvas.clientWidth) return;
  const scale = devicePixelRatio, width = canvas.clientWidth, count = table.holders.length;
  columns = Math.min(count, 2 ** Math.floor(Math.log2(width / LEAST)));
  size = width / columns;
  const height = Math.ceil(count / columns) * size;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  const [none, edge] = [colour("--track"), colour("--text")];
  table.holders.forEach(([primary, replicas, filling], number) => {
    const [x, y] = [number % columns * size, Math.floor(number / columns) * size];
    pen.fillStyle = primary < 0 ? none : colourOf(table.nodes[primary]);
    pen.fillRect(x, y, size - GAP, size - GAP);
    if (filling.length) {
      // Being filled: the corner has the colour of who gets it.
      pen.fillStyle = colourOf(table.nodes[filling[0]]);
      pen.beginPath();
      pen.moveTo(x + size - GAP, y);
      pen.lineTo(x + size - GAP, y + size - GAP);
      pen.lineTo(x, y + size - GAP);
      pen.fill();
    }
  });
  if (chosen >= 0 && chosen < count) {
    pen.strokeStyle = edge;
    pen.lineWidth = 2;
    pen.strokeRect(chosen % columns * size, Math.floor(chosen / columns) * size, size - GAP, size - GAP);
  }
  showLegend();
  describe();
}

function showLegend() {
  const counts = table.nodes.map(() => 0);
  for (const [primary] of table.holders) if (primary >= 0) counts[primary]++;
  at("legend").replaceChildren(...table.nodes.map((node, place) => {
    const swatch = make("span", { cls: "swatch" });
    swatch.style.background = colourOf(node);
    return make("li", {}, swatch, `${node}: ${counts[place]}`);
  }));
}

function describe() {
  if (chosen < 0 || chosen >= table.holders.length) return;
  const [primary, replicas, filling] = table.holders[chosen];
  const names = (places) => places.map((place) => table.nodes[place]).join(", ");
  say(at("map-text"), `Partition ${chosen}: primary ${primary < 0 ? "none" : table.nodes[primary]}, replicas ${names(replicas) || "none"}` +
    (filling.length ? `, being filled ${names(filling)}` : ""));
}

function choose(number) {
  if (!table || number < 0 || number >= table.holders.length || number === chosen) return;
  chosen = number;
  drawPartitions();
}

export function startPartitions() {
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    choose(Math.floor((event.clientY - box.top) / size) * columns + Math.min(columns - 1, Math.floor((event.clientX - box.left) / size)));
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !table) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(table.holders.length - 1, Math.max(0, chosen) + (chosen < 0 ? 0 : step))));
  });
  new ResizeObserver(drawPartitions).observe(canvas.parentElement);
}
