// What is asked of the masters. The token is in `account`, and in sessionStorage if its owner wants that; never in a URL, a cookie
// or localStorage.

const KEPT = "ringmaster-token";
const COUNTED_MS = 10000;

export const account = {
  token: sessionStorage.getItem(KEPT) ?? "",
  // Ends what was begun with the token before, whoever began it.
  session: new AbortController(),
  take(token, keep) {
    this.token = token;
    if (keep) sessionStorage.setItem(KEPT, token);
  },
  renew() {
    this.session.abort();
    this.session = new AbortController();
    return this.session.signal;
  },
  forget() {
    this.session.abort();
    this.token = "";
    sessionStorage.removeItem(KEPT);
  },
};

const answers = [];

// Until `signal` aborts, or who looks is another. A reply that says yes; otherwise an error with `status`, and `right` where one is missing.
export async function ask(path, signal, { method = "GET", headers = {}, body } = {}) {
  const sent = account.token ? { ...headers, Authorization: `Bearer ${account.token}` } : headers;
  const began = performance.now();
  const { signal: session } = account.session;
  const reply = await fetch(path, { method, body, cache: "no-store", headers: sent, signal: signal ?? session });
  const length = Number(reply.headers.get("Content-Length") ?? 0);
  answers.push({ at: began, ms: performance.now() - began, length });
  while (answers[0].at < began - COUNTED_MS) answers.shift();
  if (reply.ok) return reply;
  const problem = await reply.json().catch(() => ({}));
  const error = new Error(problem.detail ?? `status ${reply.status}`);
  throw Object.assign(error, { status: reply.status, right: problem.right, problem });
}

export const askJson = async (path, signal, more) => (await ask(path, signal, more)).json();

// What this page asked in the last ten seconds.
export function cost() {
  const recent = answers.filter((each) => each.at > performance.now() - COUNTED_MS);
  const sum = (name) => recent.reduce((total, each) => total + each[name], 0);
  return { questions: recent.length, bytes: sum("length"), ms: recent.length ? sum("ms") / recent.length : 0 };
}
