// Who looks, and what is asked again and again for them.
import { at, say } from "./dom.js";
import { forgetDialog, startDialog } from "./dialog.js";
import { Follower } from "./events.js";
import { forgetKeys, startExplorer } from "./explorer.js";
import { bytes } from "./format.js";
import { forgetHot, refreshHot } from "./hot.js";
import { account, ask, askJson, cost } from "./http.js";
import { lock, startLock } from "./lock.js";
import { Loop, whileVisible } from "./loops.js";
import { showNodes } from "./nodes.js";
import { startOperations } from "./operations.js";
import { forgetOverview, showOverview } from "./overview.js";
import { drawPartitions, forgetPartitions, refreshPartitions, shownEpoch, startPartitions } from "./partitions.js";
import { forgetSettings, refreshSettings } from "./settings.js";
import { refreshSnapshots, startSnapshots } from "./snapshots.js";
import { startTheme } from "./theme.js";
import { forgetTimeline, noteState, noteView } from "./timeline.js";
import { forgetTraffic, noteMasters, noteTraffic, redrawTraffic, refreshTraffic, startTraffic } from "./traffic.js";

const HISTORY = 100;

const health = (text) => { delete at("health").dataset.health; say(at("health"), text); };
const unanswered = (error) => health(`no answer: ${error.message}`);

// What is asked once it is known that there is an answer for who looks: otherwise each question would be refused.
let others = [];

async function refresh(signal) {
  const state = await askJson("/cluster", signal);
  noteMasters(state.masters.map((master) => master.id));
  showNodes(state.nodes);
  showOverview(state);
  noteState(state);
  if (at("state").hidden) {
    at("state").hidden = false;
    at("lock-label").hidden = false;
    drawPartitions();
  }
  at("sign-out").hidden = !account.token;
  const asked = cost();
  say(at("cost"), `This page asked ${asked.questions} questions in the last 10 s: ${bytes(asked.bytes)}, ${asked.ms.toFixed(1)} ms each. It asks nothing while its tab is hidden.`);
  if (state.epoch > shownEpoch()) map.wake();
  for (const loop of others.splice(0)) loop.run(signal);
}

const map = new Loop(refreshPartitions, 60000, askForToken);

function start() {
  const session = account.renew();
  at("sign-in").hidden = true;
  const state = new Loop(refresh, 1000, askForToken, unanswered);
  // The front door sends what is asked to the masters that have less to do: not to the one behind this stream.
  const takers = { view: (view) => { noteView(view); state.wake(); }, traffic: noteTraffic };
  const events = new Follower(`/cluster/events?history=${HISTORY}&traffic=1`, takers);
  others = [
    map,
    new Loop((signal) => events.run(whileVisible(signal)), 1000, askForToken),
    new Loop(refreshTraffic, 2000, askForToken),
    new Loop(refreshHot, 5000, askForToken),
    new Loop(refreshSnapshots, 15000, askForToken),
    new Loop(refreshSettings, 30000, askForToken),
  ];
  state.run(session);
}

function forget() {
  account.forget();
  lock();
  at("state").hidden = at("lock-label").hidden = at("sign-out").hidden = true;
  at("reasons").replaceChildren();
  showNodes([]);
  for (const each of [forgetDialog, forgetOverview, forgetTimeline, forgetPartitions, forgetTraffic, forgetHot, forgetSettings, forgetKeys]) each();
  for (const id of ["snapshots-text", "snapshot-note", "node-note"]) say(at(id), "");
}

function askForToken(error) {
  const first = error.status === 401 && !account.token;
  forget();
  health(error.right ? `The right “${error.right}” is missing: ${error.message}` :
    first ? "This cluster asks for a token with the right “read”." : `Not signed in: ${error.message}`);
  at("plain").hidden = window.isSecureContext;
  at("sign-in").hidden = false;
  at("token").focus();
}

at("sign-in").addEventListener("submit", (submit) => {
  submit.preventDefault();
  const given = at("token").value.trim();
  at("token").value = "";
  if (!/^[!-~]+$/.test(given)) return health("Not signed in: that is not of a token’s form");
  account.take(given, at("keep").checked);
  health("…");
  start();
});

at("sign-out").addEventListener("click", () => {
  forget();
  health("Signed out.");
  at("sign-in").hidden = false;
});

// A link sends no token: the page is fetched with it, and shown from memory.
at("docs").addEventListener("click", async (click) => {
  if (!account.token) return;
  click.preventDefault();
  try {
    const page = await (await ask("/docs")).blob();
    const url = URL.createObjectURL(page);
    open(url);
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  } catch (error) {
    unanswered(error);
  }
});

startDialog();
startExplorer();
startLock();
startOperations();
startPartitions();
startSnapshots();
startTraffic();
startTheme(() => { drawPartitions(); redrawTraffic(); });
start();
