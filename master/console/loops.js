// What is done again and again, while the tab can be seen.

// However often something happens: five questions a second.
const LEAST_MS = 200;

export function visible(signal) {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
    look();
  });
}

// Aborts when `signal` does, or when the tab is hidden.
export function whileVisible(signal) {
  const hidden = new AbortController();
  const look = () => {
    if (!document.hidden) return;
    document.removeEventListener("visibilitychange", look);
    hidden.abort();
  };
  document.addEventListener("visibilitychange", look);
  return AbortSignal.any([signal, hidden.signal]);
}

// Repeats `step`; `wake()` ends the time between two, but for a little. A step that says `false` is not repeated.
export class Loop {
  constructor(step, milliseconds, refused, failed = () => {}) {
    Object.assign(this, { step, milliseconds, refused, failed, wanted: false, hurry: () => {} });
  }

  wake() {
    this.wanted = true;
    this.hurry();
  }

  async run(signal) {
    while (!signal.aborted) {
      await visible(signal);
      if (signal.aborted) return;
      this.wanted = false;
      try {
        if (await this.step(signal) === false) return;
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 401 || error.right) return this.refused(error);
        this.failed(error);
      }
      await pause(LEAST_MS, signal);
      if (!this.wanted) await pause(this.milliseconds - LEAST_MS, signal, (end) => { this.hurry = end; });
    }
  }
}

// Until the time is over, `signal` aborts, or what `lend` is given is called.
function pause(milliseconds, signal, lend = () => {}) {
  return new Promise((resolve) => {
    const end = () => { clearTimeout(timer); signal.removeEventListener("abort", end); resolve(); };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
    lend(end);
  });
}
