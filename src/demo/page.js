// A relay-only call between two ends in this page, and what browser and relay count of it.
//
// window.avedge is the state for automated tests; it holds nothing the page does not show.

import { openMedia } from "./media.js";
import { Plot } from "./plot.js";

const SAMPLE_MS = 1000;
const CONNECT_MS = 20_000;
const LOSS_WINDOW_S = 5;

const $ = (id) => document.getElementById(id);
const automatic = new URLSearchParams(location.search).has("auto");

const state = window.avedge = {
  phase: "idle", // idle, starting, connected, ended, failed
  // clear() sets the rest:
  // error: what failed; media: microphone or tone;
  // pairs: { local, remote, protocol } of each end's selected pair; pair: the first of them;
  // relayed: each end's relayed address; framesDecoded, audioPackets: at the end that got fewer;
  // packetsSent, packetsReceived, packetsLost: of media, both ends; bitrate: kbit/s received, both
  // ends; roundTripMs; relay: { packetsIn, packetsOut, bytesIn, bytesOut, dropped, bitrate };
  // verdict: as shown; seconds, and relay.dropped: since the first figures, once connected.
};

const plots = {
  bitrate: new Plot($("plot-bitrate"), {
    title: "Bitrate", unit: "kbit/s", least: 100,
    series: [{ name: "browser received", color: "--browser" }, { name: "relay to browser", color: "--relay" }],
  }),
  loss: new Plot($("plot-loss"), {
    title: "Loss", unit: "percent", least: 1,
    series: [{ name: "end to end", color: "--browser" }, { name: "dropped by the relay", color: "--relay" }],
  }),
  trip: new Plot($("plot-trip"), {
    title: "Round trip", unit: "milliseconds", least: 1,
    series: [{ name: "connectivity check", color: "--browser" }, { name: "RTCP report", color: "--second" }],
  }),
};

let call = null;

function say(kind, headline, detail) {
  $("verdict").className = `verdict ${kind}`;
  // Only what changed, so that a screen reader is not told every second.
  if ($("headline").textContent !== headline) $("headline").textContent = headline;
  if ($("detail").textContent !== detail) $("detail").textContent = detail;
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, signal: AbortSignal.timeout(5000) });
  } catch {
    throw new Error("the demo no longer answers; is it still running in the terminal?");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error || `${path}: HTTP status ${answer.status}`);
  return body;
}

class Call {
  constructor() {
    this.ends = [];
    this.media = null;
    this.before = null;
    this.history = [];
    this.over = false;
    this.skip = new AbortController();
  }

  async start() {
    say("busy", "Asking for the microphone", "Allow it, or use a generated tone. The picture is generated either way.");
    $("skip").hidden = false;
    this.media = await openMedia(automatic ? 3000 : 20_000, this.skip.signal);
    $("skip").hidden = true;
    if (this.over) return this.media.stop();
    state.media = this.media.kind;
    $("near").srcObject = new MediaStream(this.media.stream.getVideoTracks());
    $("source").textContent = this.media.kind === "microphone" ? "microphone and test picture"
      : `tone and test picture: ${this.media.why}`;

    say("busy", "Fetching a credential", "From the credential service, good for an hour.");
    const configuration = await ask("api/credentials", { method: "POST" });
    if (this.over) return;
    $("ice").textContent = JSON.stringify(configuration, null, 2);
    $("copy").hidden = !navigator.clipboard;

    say("busy", "Connecting through the relay", "Two allocations, one for each end; direct paths are forbidden.");
    await this.connect(configuration.iceServers);
    if (this.over) return;
    state.phase = "connected";
    $("far").srcObject = this.ends[1].received;
    $("listen").hidden = false;
    document.querySelector(".stage").classList.add("live");
    await this.sample();
  }

  async connect(iceServers) {
    this.ends = [0, 1].map(() => {
      const pc = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" });
      return { pc, received: new MediaStream(), candidates: 0 };
    });
    const [a, b] = this.ends;
    const trouble = [];
    for (const [end, other] of [[a, b], [b, a]]) {
      end.pc.onicecandidate = ({ candidate }) => {
        end.candidates += candidate?.candidate ? 1 : 0;
        other.pc.addIceCandidate(candidate).catch((error) => trouble.push(error.message));
      };
      end.pc.onicecandidateerror = ({ errorCode, errorText, url }) => {
        trouble.push(`${url}: ${errorCode} ${errorText}`);
      };
      end.pc.ontrack = ({ track }) => end.received.addTrack(track);
      this.media.stream.getTracks().forEach((track) => end.pc.addTrack(track, this.media.stream));
    }
    await a.pc.setLocalDescription();
    await b.pc.setRemoteDescription(a.pc.localDescription);
    await b.pc.setLocalDescription();
    await a.pc.setRemoteDescription(b.pc.localDescription);
    await Promise.all(this.ends.map((end) => this.connected(end, trouble)));
  }

  // Settles when the end is connected, or cannot be. Later failures end the call.
  connected(end, trouble) {
    const { pc } = end;
    return new Promise((resolve, reject) => {
      const lose = (what) => {
        const error = new Error(`${what} ${trouble.at(-1) ?? ""}`);
        if (state.phase === "connected") fail(error);
        reject(error);
      };
      const late = setTimeout(lose, CONNECT_MS, `No path through the relay within ${CONNECT_MS / 1000} s.`);
      const look = () => {
        if (pc.connectionState === "connected") {
          clearTimeout(late);
          resolve();
        } else if (pc.connectionState === "failed") {
          clearTimeout(late);
          lose("The connectivity checks find no path through the relay.");
        } else if (pc.iceGatheringState === "complete" && !end.candidates) {
          clearTimeout(late);
          lose("The relay gave no allocation.");
        }
      };
      pc.addEventListener("connectionstatechange", look);
      pc.addEventListener("icegatheringstatechange", look);
      look();
    });
  }

  // Reads both ends and the relay, and shows the difference to the last time.
  async sample() {
    const [ends, relay] = await Promise.all([
      Promise.all(this.ends.map((end) => readEnd(end.pc))),
      ask("api/sessions"),
    ]);
    if (this.over) return;
    const sessions = ends.map((end) => relay.sessions.find((s) => s.relayed.includes(end.relayed)));
    this.show({ at: performance.now(), relayAt: relay.at_ms, dropped: relay.dropped, ends, sessions });
    this.timer = setTimeout(() => this.sample().catch(fail), SAMPLE_MS);
  }

  show(now) {
    const before = this.before;
    this.before = now;
    this.first ??= now;
    const { ends, sessions } = now;
    const sum = (list, field) => list.reduce((total, item) => total + (field(item) ?? 0), 0);
    const rate = (bytes, ms) => ms > 0 ? Math.max(0, bytes * 8 / ms) : 0; // kbit/s
    const seen = sessions.filter(Boolean);

    Object.assign(state, {
      pair: ends[0].pair,
      pairs: ends.map((end) => end.pair),
      relayed: ends.map((end) => end.relayed),
      framesDecoded: Math.min(...ends.map((end) => end.framesDecoded)),
      audioPackets: Math.min(...ends.map((end) => end.audioPackets)),
      packetsSent: sum(ends, (end) => end.mediaSent),
      packetsReceived: sum(ends, (end) => end.mediaReceived),
      packetsLost: Math.max(0, sum(ends, (end) => end.lost)),
      roundTripMs: ends[0].tripMs,
      seconds: (now.at - this.first.at) / 1000,
    });
    const relay = {
      packetsIn: sum(seen, (s) => s.to_peer.packets),
      packetsOut: sum(seen, (s) => s.to_client.packets),
      bytesIn: sum(seen, (s) => s.to_peer.bytes),
      bytesOut: sum(seen, (s) => s.to_client.bytes),
      // ICE's first check may come before the other end's permission and is dropped, as it must be.
      dropped: now.dropped - this.first.dropped,
      bitrate: null,
    };
    if (before && seen.length === 2) {
      const out = (sample) => sum(sample.sessions, (s) => s?.to_client.bytes);
      const pairs = ends.map((end, index) => [end, before.ends[index]]);
      state.bitrate = sum(pairs, ([end, old]) => rate(end.bytesReceived - old.bytesReceived, end.at - old.at));
      relay.bitrate = rate(out(now) - out(before), now.relayAt - before.relayAt);
    }
    state.relay = seen.length === 2 ? relay : null;
    this.plot(now.at, relay);
    this.judge(seen.length);
    showRows(ends, sessions);
  }

  plot(at, relay) {
    // Loss over the last seconds: a share of a single second would jump about.
    const totals = { lost: state.packetsLost, received: state.packetsReceived, ...relay };
    this.history.push(totals);
    if (this.history.length > LOSS_WINDOW_S + 1) this.history.shift();
    const old = this.history[0];
    const lost = totals.lost - old.lost;
    const expected = lost + totals.received - old.received;
    const loss = expected > 0 ? Math.max(0, 100 * lost / expected) : null;
    const entered = totals.packetsIn - old.packetsIn;
    const inside = entered > 0 ? 100 * (totals.dropped - old.dropped) / entered : null;
    plots.bitrate.add(at, [state.bitrate, relay.bitrate]);
    plots.loss.add(at, [loss, inside]);
    plots.trip.add(at, [state.roundTripMs, this.before.ends[0].reportMs]);
    const text = (value, digits) => value === null ? "–" : value.toFixed(digits);
    $("bitrate").textContent = text(state.bitrate, 0);
    $("loss").textContent = text(loss, 1);
    $("trip").textContent = text(state.roundTripMs, 1);
    $("frames").textContent = `${state.framesDecoded.toLocaleString("en")} frames decoded`;
  }

  judge(found) {
    const types = state.pairs.map((pair) => `${pair?.local ?? "?"}/${pair?.remote ?? "?"}`);
    const relayed = types.every((type) => type === "relay/relay");
    const lost = state.packetsLost;
    state.verdict = `${types[0]}, ${lost} lost`;
    const seconds = Math.round(state.seconds);
    const share = state.packetsReceived ? ` of ${(state.packetsReceived + lost).toLocaleString("en")} packets` : "";
    const path = `${state.relayed[0] ?? "?"} ⇄ ${state.relayed[1] ?? "?"} over ${state.pair?.protocol ?? "?"}`;
    const matched = found === 2 ? "" : " · the relay does not show both allocations";
    say(relayed && lost === 0 ? "good" : lost === 0 ? "busy" : "bad",
      `${state.verdict}${share}`,
      `${path} · ${seconds} s${matched}`);
    if (!relayed && this.before && state.seconds > 3) say("bad", `${types.join(", ")}: not only the relay`, path);
  }

  end() {
    this.over = true;
    this.skip.abort();
    clearTimeout(this.timer);
    this.ends.forEach((end) => end.pc.close());
    this.media?.stop();
  }
}

// What one end's browser counts, from getStats.
async function readEnd(pc) {
  const all = [...(await pc.getStats()).values()];
  const of = (type) => all.filter((entry) => entry.type === type);
  const by = (id) => all.find((entry) => entry.id === id);
  const transport = of("transport").find((entry) => entry.selectedCandidatePairId);
  // Firefox marks the pair instead of naming it in the transport.
  const pair = transport ? by(transport.selectedCandidatePairId)
    : of("candidate-pair").find((entry) => entry.selected || (entry.nominated && entry.state === "succeeded"));
  const local = pair && by(pair.localCandidateId);
  const remote = pair && by(pair.remoteCandidateId);
  const inbound = of("inbound-rtp");
  const outbound = of("outbound-rtp");
  const total = (list, name) => list.reduce((sum, entry) => sum + (entry[name] ?? 0), 0);
  const reports = of("remote-inbound-rtp").map((entry) => entry.roundTripTime).filter((s) => s > 0);
  const host = local?.address?.includes(":") ? `[${local.address}]` : local?.address;
  return {
    pair: local && remote
      ? { local: local.candidateType, remote: remote.candidateType, protocol: local.relayProtocol ?? local.protocol }
      : null,
    relayed: local?.candidateType === "relay" ? `${host}:${local.port}` : null,
    tripMs: pair?.currentRoundTripTime > 0 ? pair.currentRoundTripTime * 1000 : null,
    reportMs: reports.length ? Math.min(...reports) * 1000 : null,
    framesDecoded: total(inbound, "framesDecoded"),
    audioPackets: total(inbound.filter((entry) => entry.kind === "audio"), "packetsReceived"),
    mediaSent: total(outbound, "packetsSent"),
    mediaReceived: total(inbound, "packetsReceived"),
    lost: total(inbound, "packetsLost"),
    at: pair?.timestamp ?? performance.now(), // when these figures were true
    packetsSent: pair?.packetsSent ?? total(outbound, "packetsSent"),
    packetsReceived: pair?.packetsReceived ?? total(inbound, "packetsReceived"),
    bytesSent: pair?.bytesSent ?? total(outbound, "bytesSent"),
    bytesReceived: pair?.bytesReceived ?? total(inbound, "bytesReceived"),
  };
}

function showRows(ends, sessions) {
  const count = (value) => value === undefined ? "–" : value.toLocaleString("en");
  const kilo = (value) => value === undefined ? "–"
    : (value / 1000).toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const rows = ends.flatMap((end, index) => {
    const relay = sessions[index];
    return [
      [end.relayed ?? "?", "browser → peer", end.packetsSent, relay?.to_peer.packets, end.bytesSent, relay?.to_peer.bytes],
      ["", "peer → browser", end.packetsReceived, relay?.to_client.packets, end.bytesReceived, relay?.to_client.bytes],
    ];
  });
  $("rows").replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    cells.forEach((value, index) => {
      const cell = row.insertCell();
      if (index > 1) cell.className = "n";
      cell.textContent = index < 2 ? value : index < 4 ? count(value) : kilo(value);
    });
    return row;
  }));
}

function hangUp(phase) {
  call?.end();
  call = null;
  state.phase = phase;
  $("call").textContent = "Start call";
  $("call").classList.remove("running");
  $("skip").hidden = true;
  $("listen").hidden = true;
  $("near").srcObject = null;
  $("far").srcObject = null;
  document.querySelector(".stage").classList.remove("live");
}

function fail(error) {
  if (!call) return;
  hangUp("failed");
  state.error = error.message;
  say("bad", "The call failed", error.message);
}

// Figures of an earlier call must not pass for those of the next.
function clear() {
  Object.values(plots).forEach((plot) => plot.clear());
  for (const id of ["bitrate", "loss", "trip"]) $(id).textContent = "–";
  $("source").textContent = "nothing yet";
  $("frames").textContent = "no frame yet";
  const row = document.createElement("tr");
  const cell = row.insertCell();
  cell.colSpan = 6;
  cell.className = "faint";
  cell.textContent = "No allocation yet.";
  $("rows").replaceChildren(row);
  Object.assign(state, {
    error: null, media: null, pair: null, pairs: [], relayed: [], framesDecoded: 0, audioPackets: 0,
    packetsSent: 0, packetsReceived: 0, packetsLost: 0, bitrate: null, roundTripMs: null, relay: null,
    verdict: "", seconds: 0,
  });
}

async function begin() {
  clear();
  state.phase = "starting";
  $("call").textContent = "Hang up";
  $("call").classList.add("running");
  call = new Call();
  const mine = call;
  try {
    await mine.start();
  } catch (error) {
    if (call === mine) fail(error);
  }
}

function describe(about) {
  const self = about.self_call;
  const trip = self.round_trip_ms === null ? "" : `, ${self.round_trip_ms.toFixed(2)} ms round trip`;
  const rows = [
    ["Relay", about.listeners.join(", ")],
    ["Call at start", self.perfect
      ? `${self.packets} SRTP packets, each arrived as sent${trip}`
      : `${self.packets} SRTP packets, ${self.lost} lost, ${self.altered} altered`],
    ["Metrics", about.metrics],
    ["Version", about.version],
  ];
  $("about").replaceChildren(...rows.filter(([, value]) => value).flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const description = document.createElement("dd");
    term.textContent = name;
    if (name === "Metrics") {
      const link = document.createElement("a");
      link.href = link.textContent = value;
      link.rel = "noreferrer";
      description.append(link);
    } else {
      description.textContent = value;
    }
    return [term, description];
  }));
}

$("call").addEventListener("click", () => {
  if (call) {
    const verdict = state.verdict;
    const was = state.phase;
    hangUp("ended");
    say("", was === "connected" ? `Call ended: ${verdict}` : "Call ended", "The allocations are released.");
  } else {
    begin();
  }
});
$("skip").addEventListener("click", () => call?.skip.abort());
$("listen").addEventListener("click", () => {
  const far = $("far");
  far.muted = !far.muted;
  $("listen").setAttribute("aria-pressed", String(!far.muted));
  $("listen").textContent = far.muted ? "Listen" : "Mute";
});
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("ice").textContent);
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
});
window.addEventListener("pagehide", () => call?.end());

ask("api/about").then(describe, (error) => {
  if (!call) say("bad", "The demo does not answer", error.message);
});
clear();
if (!window.RTCPeerConnection) {
  $("call").disabled = true;
  say("bad", "No WebRTC", "This browser cannot make WebRTC calls.");
} else if (automatic) {
  begin();
}
