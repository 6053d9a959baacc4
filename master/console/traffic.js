// Charts of the last five minutes.
import { at, colour, make, say } from "./dom.js";
import { duration, percent, rate } from "./format.js";
import { askJson } from "./http.js";
import { Steps } from "./steps.js";

const HEIGHT = 140;
const SHOWN_S = 300;
const LATENCIES = [["p50", "--good"], ["p95", "--warn"], ["p99", "--bad"]];
const steps = new Steps();
let charts = [];
// Masters that /cluster lists.
let masters = [];

const axis = (more) => ({ stroke: () => colour("--muted"), grid: { stroke: () => colour("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui", ...more });

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

function chart(id, lines, values, range) {
  const element = at(id);
  const options = {
    width: Math.max(200, element.clientWidth),
    height: HEIGHT,
    cursor: { drag: { x: false, y: false } },
    scales: { x: { range: (_, __, last) => last ? [last - SHOWN_S, last] : [0, 1] }, y: { range } },
    axes: [axis({ space: 60, size: 26, values: (_, ticks) => ticks.map(clock) }), axis({ size: 58, values: (_, ticks) => ticks.map(values) })],
    series: [{}, ...lines.map(([label, name]) => ({ label, stroke: () => colour(name), width: 1.5, points: { show: false } }))],
  };
  return new uPlot(options, [[], ...lines.map(() => [])], element);
}

export function startTraffic() {
  const upward = (_, __, most) => [0, most > 0 ? most * 1.1 : 1];
  charts = [
    chart("chart-requests", [["requests", "--accent"]], rate, upward),
    chart("chart-latency", LATENCIES, duration, (_, __, most) => [0, most > 0 ? most * 1.1 : 0.001]),
    chart("chart-hits", [["hit ratio", "--good"]], (part) => `${Math.round(100 * part)} %`, () => [0, 1.02]),
  ];
  new ResizeObserver(() => {
    for (const each of charts) {
      const width = each.root.parentElement.clientWidth;
      if (width && width !== each.width) each.setSize({ width, height: HEIGHT });
    }
  }).observe(at("chart-requests"));
}

export function redrawTraffic() {
  for (const each of charts) each.redraw();
}

export function noteMasters(ids) { masters = ids; }

export function forgetTraffic() {
  steps.forget();
  draw();
}

export async function refreshTraffic(signal) {
  noteTraffic(await askJson(`/cluster/traffic?since=${steps.since(masters)}`, signal));
}

export function noteTraffic(reply) {
  steps.take(reply);
  draw();
}

function draw() {
  const [times, requests, p50, p95, p99, hits] = steps.columns();
  const data = [[times, requests], [times, p50, p95, p99], [times, hits]];
  charts.forEach((each, place) => each.setData(data[place]));
  const last = (column) => column.findLast((value) => value !== null) ?? null;
  say(at("now-requests"), times.length ? rate(last(requests) ?? 0) : "");
  at("now-latency").replaceChildren(...[p50, p95, p99].flatMap((column, place) => {
    const [name, value] = [LATENCIES[place][0], last(column)];
    return [make("span", { cls: name, text: name }), ` ${value === null ? "–" : duration(value)} `];
  }));
  say(at("now-hits"), percent(last(hits)));
  const heard = [...steps.byMaster.keys()].filter((id) => masters.includes(id));
  say(at("traffic-note"), !heard.length ? "…" : masters.length > heard.length
    ? `As told by ${heard.join(", ")}: ${heard.length} of ${masters.length} masters have answered so far.`
    : `All ${masters.length} masters together, in steps of ${steps.stepMs / 1000} s.`);
}
