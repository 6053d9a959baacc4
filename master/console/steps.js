// Steps of traffic, as masters tell them, added up. Pure.

const KEPT_MS = 300000;
const PATIENCE_MS = 10000;

// In which time a part `q` of the requests was answered: by linear interpolation in the bucket where that is.
export function quantile(bounds, buckets, q) {
  const total = buckets.reduce((sum, count) => sum + count, 0);
  if (!total) return null;
  let below = 0;
  for (let place = 0; place < buckets.length; place++) {
    const count = buckets[place];
    if (count && below + count >= q * total) {
      const low = place ? bounds[place - 1] : 0;
      const high = bounds[place] ?? low;
      return low + (high - low) * (q * total - below) / count;
    }
    below += count;
  }
  return bounds[bounds.length - 1];
}

export class Steps {
  constructor() { this.forget(); }

  forget() {
    this.byMaster = new Map();
    this.bounds = [];
    this.stepMs = 2000;
    this.last = 0;
  }

  take(reply) {
    this.bounds = reply.bounds_s;
    this.stepMs = reply.step_ms;
    const known = this.byMaster.get(reply.master) ?? new Map();
    this.byMaster.set(reply.master, known);
    for (const step of reply.steps) known.set(step[0], step);
    this.last = Math.max(this.last, ...known.keys());
    for (const steps of this.byMaster.values()) {
      for (const at of steps.keys()) if (at < this.last - KEPT_MS) steps.delete(at);
    }
  }

  // From when on something is not known of one of `masters`.
  since(masters) {
    const newest = masters.map((master) => Math.max(0, ...(this.byMaster.get(master)?.keys() ?? [])));
    return newest.length ? Math.min(...newest) : 0;
  }

  // Columns: seconds since 1970, requests a second, p50, p95, p99 in seconds, hit ratio. Null: nothing was asked.
  columns() {
    const columns = [[], [], [], [], [], []];
    const masters = [...this.byMaster.values()].filter((steps) => steps.size);
    if (!masters.length) return columns;
    // A step that some have not told yet would seem less than it was; who is gone is not waited for.
    const ends = masters.map((steps) => Math.max(...steps.keys()));
    const end = Math.min(...ends.filter((each) => each > this.last - PATIENCE_MS));
    const begin = Math.max(end - KEPT_MS + this.stepMs, Math.min(...masters.map((steps) => Math.min(...steps.keys()))));
    for (let at = begin; at <= end; at += this.stepMs) {
      const told = masters.map((steps) => steps.get(at)).filter(Boolean);
      const sum = (place) => told.reduce((total, step) => total + step[place], 0);
      const buckets = this.bounds.map(() => 0).concat(0);
      for (const step of told) step[6].forEach((count, place) => { buckets[place] += count; });
      const [hits, misses] = [sum(4), sum(5)];
      const row = [at / 1000, told.length ? sum(1) * 1000 / this.stepMs : null, ...[0.5, 0.95, 0.99].map((q) => quantile(this.bounds, buckets, q)),
        hits + misses ? hits / (hits + misses) : null];
      row.forEach((value, place) => columns[place].push(value));
    }
    return columns;
  }
}
