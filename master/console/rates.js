// What grows a second, from totals that are read now and then and begin anew when a process does.

const WINDOW_MS = 5000;

export class Rates {
  constructor() { this.seen = new Map(); }

  // `totals`: numbers by name.
  note(id, incarnation, totals) {
    let known = this.seen.get(id);
    if (known?.incarnation !== incarnation) this.seen.set(id, known = { incarnation, points: [] });
    known.points.push({ at: performance.now(), totals });
    while (known.points.length > 2 && known.points[1].at < performance.now() - WINDOW_MS) known.points.shift();
  }

  // By how much `name` grew in the last seconds, and in how many; null while only one total is known.
  growth(id, name) {
    const points = this.seen.get(id)?.points ?? [];
    if (points.length < 2) return null;
    const [first, last] = [points[0], points[points.length - 1]];
    return { by: Math.max(0, last.totals[name] - first.totals[name]), seconds: (last.at - first.at) / 1000 };
  }

  perSecond(id, name) {
    const growth = this.growth(id, name);
    return growth && growth.by / growth.seconds;
  }

  ratio(id, part, rest) {
    const [a, b] = [this.growth(id, part), this.growth(id, rest)];
    return a && a.by + b.by ? a.by / (a.by + b.by) : null;
  }
}
