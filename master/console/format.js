// Figures for people.

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit++) count /= 1024;
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

export const whole = (number) => Math.round(number).toLocaleString("en");

export const rate = (number) => number >= 100 || number === 0 ? whole(number) : number.toFixed(1);

export const percent = (part) => part === null ? "–" : `${(100 * part).toFixed(part > 0.995 && part < 1 ? 2 : 1)} %`;

export function duration(seconds) {
  if (!seconds) return "0 s";
  if (seconds < 1) return `${(1000 * seconds).toFixed(seconds < 0.01 ? 2 : 0)} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

export const plural = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;
