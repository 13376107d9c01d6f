// What happens, as the relay tells it (Server-Sent Events).
//
// Read by fetch, because an EventSource shows no token. The stream says whether it flows: while it does
// not, the page lives by asking alone. One that broke is resumed behind the last event that was heard.

import { token } from "./api.js";

const PAUSES_MS = [2_000, 30_000];
/** The relay never keeps silent for so long. */
const SILENCE_MS = 40_000;

export class Stream {
  constructor({ heard, flows }) {
    this.heard = heard;
    this.flows = flows;
    this.last = "";
    this.reading = null;
  }

  /** Reads, again and again, until told to leave. */
  follow() {
    if (this.reading) return;
    this.reading = new AbortController();
    this.goOn(this.reading.signal);
  }

  leave() {
    this.reading?.abort();
    this.reading = null;
    this.flows(false);
  }

  async goOn(left) {
    const [first, longest] = PAUSES_MS;
    let pause = first;
    while (!left.aborted) {
      // A stream that flowed and ended is one that the relay ended, as it does every few minutes.
      pause = (await this.read(left)) ? first : Math.min(pause * 2, longest);
      if (left.aborted) return;
      this.flows(false);
      await new Promise((done) => {
        setTimeout(done, pause);
        left.addEventListener("abort", done, { once: true });
      });
    }
  }

  /** Reads one stream to its end; whether it flowed. */
  async read(left) {
    const silent = new AbortController();
    let patience = 0;
    const wait = () => {
      clearTimeout(patience);
      patience = setTimeout(() => silent.abort(), SILENCE_MS);
    };
    let flowed = false;
    try {
      wait();
      const headers = {};
      if (token.get()) headers.authorization = `Bearer ${token.get()}`;
      if (this.last) headers["last-event-id"] = this.last;
      const signal = AbortSignal.any([left, silent.signal]);
      const response = await fetch("/v1/events", { headers, signal, cache: "no-store" });
      if (!response.ok) return false;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return flowed;
        wait();
        if (!flowed) this.flows(true);
        flowed = true;
        const blocks = (text + value).split("\n\n");
        text = blocks.pop();
        blocks.forEach((block) => this.take(block));
      }
    } catch {
      // It broke: whether the relay answers at all is told by those who ask.
      return flowed;
    } finally {
      clearTimeout(patience);
    }
  }

  take(block) {
    const fields = Object.fromEntries(block.split("\n").map((line) => {
      const [name, ...rest] = line.split(": ");
      return [name, rest.join(": ")];
    }));
    if (fields.id) this.last = fields.id;
    if (fields.event) this.heard(fields.event, JSON.parse(fields.data));
  }
}
