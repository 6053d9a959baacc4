// Server-sent events by fetch: EventSource could not send the token.
import { ask } from "./http.js";

// The fields of each event; comments and the time to wait before another try are passed over.
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
      if ("data" in fields) yield fields;
    }
  }
}

// Goes on from where it was cut, on whichever master answers then. `takers`: by the name of the event, what takes its data.
export class Follower {
  constructor(path, takers) {
    Object.assign(this, { path, takers, last: "" });
  }

  async run(signal) {
    const headers = { Accept: "text/event-stream", ...(this.last && { "Last-Event-ID": this.last }) };
    const reply = await ask(this.path, signal, { headers });
    for await (const event of eventsOf(reply.body)) {
      this.last = event.id ?? this.last;
      this.takers[event.event]?.(JSON.parse(event.data));
    }
  }
}
