// One allocation: both legs over ten minutes, its streams, its peers, what happened to it, and its end.

import { get, request, sentence } from "./api.js";
import { change } from "./ask.js";
import { showEntries } from "./entries.js";
import { NONE, bitrate, count, duration, megabytes, milliseconds, percent, share, span, tenths, time } from "./format.js";
import { IN_KERNEL, tone } from "./overview.js";
import { Plot, element } from "./plot.js";

const CAPTURE_S = 10;

const $ = (id) => document.getElementById(id);

let id = "";
let plots = null;
/** Paths of the API of this relay, which may be older or newer than the page in this tab. */
let paths = null;

function makePlots() {
  const legs = (what) => [
    { name: "client", key: `${what}_client`, tone: "client" },
    { name: "peer", key: `${what}_peer`, tone: "peer" },
  ];
  const ways = [
    { name: "to peer", key: "to_peer", tone: "client" },
    { name: "to client", key: "to_client", tone: "peer" },
  ];
  const make = (name, options) => new Plot($(`plot-${name}`), options);
  return [
    make("rate", { title: "Throughput", series: ways, show: bitrate, floor: 5e4 }),
    make("legs", { title: "Loss by leg", series: legs("loss"), show: share, floor: 0.01 }),
    make("jitter", { title: "Jitter", series: legs("jitter"), show: duration, floor: 0.01 }),
  ];
}

export const allocation = {
  open(subject) {
    plots ??= makePlots();
    if (subject !== id) {
      $("outcome").hidden = true;
      $("facts").replaceChildren();
      for (const table of ["streams", "peers"]) $(table).tBodies[0].replaceChildren();
      $("history-section").hidden = true;
      for (const plot of plots) plot.set([]);
      alive(true);
    }
    id = subject;
    $("which").textContent = `Allocation ${id}`;
    $("which").focus({ preventScroll: true });
  },

  async update(_state, current) {
    let detail;
    try {
      detail = await get(`/v1/allocations/${id}`);
    } catch (refused) {
      if (refused.status !== 404) throw refused;
      const past = await get(`/v1/explain?subject=${id}`);
      if (!current()) return;
      alive(false);
      if ($("outcome").hidden) say(sentence(past.summary));
      showHistory(past.entries);
      return;
    }
    paths ??= (await get("/v1/openapi.json")).paths;
    if (!current()) return;
    alive(true);
    showFacts(detail);
    const samples = detail.samples.map((it) => ({
      time_ms: it.time_ms,
      to_peer: it.rate_to_peer * 8, to_client: it.rate_to_client * 8,
      loss_client: it.loss_client, loss_peer: it.loss_peer,
      jitter_client: it.jitter_client_s, jitter_peer: it.jitter_peer_s,
    }));
    for (const plot of plots) plot.set(samples);
    $("measured").textContent = measured(detail);
    const none = detail.relayed_by === "kernel" ? "Nothing passed the relay." : "Nothing came yet.";
    fill("streams", detail.streams.map(stream), none);
    fill("peers", detail.peers.map(peer), "It may reach nobody yet.");
    showHistory(detail.history);
  },
};

function measured({ measured, relayed_by }) {
  if (relayed_by === "kernel") return `${IN_KERNEL}, but for the few packets that pass the relay`;
  return measured ? "before the relay, on either leg" : "not measured, by quality.every or quality.measure";
}

function showHistory(entries) {
  $("history-section").hidden = !entries.length;
  showEntries($("history"), entries, id);
}

/** What is over stays to be read, and has no buttons. */
function alive(is) {
  $("over").hidden = is;
  $("end").hidden = !is;
  $("capture").hidden = !is || !paths?.["/v1/allocations/{id}/capture"];
  $("allocation").classList.toggle("gone", !is);
}

function showFacts(it) {
  const facts = [
    ["Client", `${it.client} ${it.transport}`, "address"],
    ["Relayed", it.relayed.join(" "), "address"],
    ["Listener", it.listener, "address"],
    ["Speaks", it.dialect === "turn" ? "TURN" : "MS-TURN"],
    ["User", it.user, "id"],
    ["Opened", `${time(it.opened_ms)}, ${span(it.age_s)} ago`],
    ["Ends in", `${span(it.expires_in_s)} unless refreshed`, "ends"],
    ["Carried", `${megabytes(it.bytes_to_peer)} MB to peer, ${megabytes(it.bytes_to_client)} MB to client`],
  ];
  if (it.packets_in_kernel) {
    const all = it.packets_to_peer + it.packets_to_client;
    facts.push(["In the kernel", `${count(it.packets_in_kernel)} of ${count(all)} packets`]);
  }
  $("facts").replaceChildren(...facts.map(([name, value, kind]) => {
    const pair = element("div");
    pair.append(element("dt", "", name), element("dd", kind, value || NONE));
    return pair;
  }));
}

const or = (value, show) => (value == null ? NONE : show(value));

function stream(it) {
  const loss = it.expected ? it.lost / it.expected : null;
  const kind = it.kind === "rtp" ? `RTP ${it.video ? "video" : "audio"}` : it.kind.toUpperCase();
  const ssrc = it.ssrc == null ? NONE : it.ssrc.toString(16).padStart(8, "0");
  return [
    [it.leg, `leg ${it.leg}`], [it.kind === "other" ? "not RTP" : kind], [ssrc, "id"],
    [or(it.payload_type, String), "n"], [count(it.packets), "n"], [megabytes(it.bytes), "n"],
    [or(it.lost, count), "n"], [percent(loss), `n ${tone(loss)}`], [or(it.reordered, count), "n"],
    [or(it.duplicates, count), "n"], [milliseconds(it.jitter_s), "n"],
    [or(it.longest_gap_s, duration), "n"], [or(it.freezes, count), "n"], [or(it.frame_rate, tenths), "n"],
  ];
}

function peer(it) {
  const by = {
    channel: () => `channel 0x${it.channel.toString(16)}`,
    destination: () => "active destination",
    connection: () => "TCP connection",
    permission: () => "permission alone",
  }[it.via]();
  return [
    [it.address, "address"], [by],
    [or(it.channel_expires_in_s, span), "n"], [or(it.permission_expires_in_s, span), "n"],
  ];
}

/** Lines of cells: text and kind. The first one heads its line. */
function fill(id, lines, none) {
  const body = $(id).tBodies[0];
  const width = $(id).tHead.rows[0].cells.length;
  if (!lines.length) {
    const cell = element("td", "empty soft", none);
    cell.colSpan = width;
    const line = element("tr");
    line.append(cell);
    body.replaceChildren(line);
    return;
  }
  body.replaceChildren(...lines.map((cells) => {
    const line = element("tr");
    cells.forEach(([text, kind = ""], at) => {
      const cell = element(at ? "td" : "th", kind, text);
      if (!at) cell.scope = "row";
      line.append(cell);
    });
    return line;
  }));
}

function say(text, bad = false) {
  $("outcome").textContent = text;
  $("outcome").className = bad ? "outcome wrong" : "outcome";
  $("outcome").hidden = false;
}

async function end() {
  const subject = id;
  try {
    const done = await change({
      title: `End allocation ${subject}?`,
      text: "Its call stops at once. The client hears of it with its next request.",
      act: "End it",
      danger: true,
      work: () => request("DELETE", `/v1/allocations/${subject}`),
    });
    if (!done) return;
    say(`Ended at ${time(Date.now())}.`);
    document.dispatchEvent(new Event("again"));
  } catch (refused) {
    say(refused.message, true);
  }
}

async function capture() {
  const subject = id;
  try {
    const response = await change({
      title: `Capture allocation ${subject}?`,
      text: `The headers of its packets on both legs for ${CAPTURE_S} seconds, as a file for Wireshark.`,
      act: "Capture",
      work: () => {
        say(`Capturing for ${CAPTURE_S} seconds.`);
        return request("POST", `/v1/allocations/${subject}/capture?seconds=${CAPTURE_S}&payload=headers`, {
          patience: (CAPTURE_S + 20) * 1_000,
        });
      },
    });
    if (!response) return;
    const file = await response.blob();
    const link = element("a");
    link.href = URL.createObjectURL(file);
    link.download = `allocation-${subject}.pcapng`;
    link.click();
    URL.revokeObjectURL(link.href);
    say(`Captured ${count(file.size)} bytes, in ${link.download}.`);
  } catch (refused) {
    say(refused.message, true);
  }
}

$("end").addEventListener("click", end);
$("capture").addEventListener("click", capture);
