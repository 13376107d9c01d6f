// The overview: problems first, then the last ten minutes, then the allocations in some order.

import { get, sentence } from "./api.js";
import { entry } from "./entries.js";
import { NONE, bitrate, count, duration, kbit, megabytes, milliseconds, percent, share, span } from "./format.js";
import { Plot, element, spark, trace } from "./plot.js";

const SHOWN = 100;
const NAMED = 6;
const HAPPENED = 5;
const TOLD = new Set(["opened", "moved", "closed", "refused"]);
const KEPT_MS = 600_000;
const BAD = [0.02, 0.1];
/** Why there are no figures of an allocation's media. */
export const IN_KERNEL = "relayed by the kernel: not measured";

const $ = (id) => document.getElementById(id);

const ORDERS = {
  id: ["ascending", "in the order of their numbers"],
  throughput: ["descending", "those that carry most now"],
  loss: ["descending", "those that lose most now"],
  bytes: ["descending", "those that carried most"],
  age: ["descending", "the oldest"],
  expiry: ["ascending", "those that end soonest unless refreshed"],
};

let sort = "throughput";
let samples = [];
let plots = null;
/** Lines of the table by the id of their allocation: a line that stays is not made again. */
const rows = new Map();

function makePlots() {
  const ways = [
    { name: "to peer", key: "to_peer", tone: "client" },
    { name: "to client", key: "to_client", tone: "peer" },
  ];
  const legs = [
    { name: "client", key: "loss_client", tone: "client" },
    { name: "peer", key: "loss_peer", tone: "peer" },
  ];
  const alone = (key) => [{ name: "", key, tone: "client" }];
  const make = (id, options) => new Plot($(`plot-${id}`), options);
  return [
    make("throughput", { title: "Throughput", series: ways, show: bitrate, floor: 1e5 }),
    make("loss", { title: "Loss by leg", series: legs, show: share, floor: 0.01 }),
    make("allocations", { title: "Allocations", series: alone("allocations"), show: count, floor: 10 }),
    make("cpu", { title: "CPU per packet", series: alone("cpu_per_packet_s"), show: duration, floor: 1e-6 }),
  ];
}

export const overview = {
  open() {
    plots ??= makePlots();
    mark();
  },

  /** Shows what just happened, if somebody came, went or was refused; whether that is so. */
  heard(name, data) {
    if (!TOLD.has(name)) return false;
    const list = $("happened");
    list.prepend(entry(data, { withClient: true }));
    while (list.children.length > HAPPENED) list.lastElementChild.remove();
    $("happened-section").hidden = false;
    return true;
  },

  async update(state, current) {
    const since = samples.length ? samples[samples.length - 1].time_ms : 0;
    const [fresh, page] = await Promise.all([
      get(`/v1/samples${since ? `?since_ms=${since}` : ""}`),
      get(`/v1/allocations?sort=${sort}&limit=${SHOWN}`),
    ]);
    if (!current()) return;
    showProblems(state);
    keep(fresh.samples);
    for (const plot of plots) plot.set(samples);
    showTable(page);
    showTally("refused", state.refused);
    showTally("dropped", state.dropped);
    const { workers, allocations, limits } = state;
    $("about-relay").textContent =
      `${count(workers)} ${workers === 1 ? "worker" : "workers"}, room for ${count(limits.allocations)} ` +
      `allocations, ${count(allocations)} in use; ${count(state.packets)} packets relayed since the start` +
      (state.offloaded_packets ? `, ${count(state.offloaded_packets)} of them in the kernel` : "") + ".";
  },
};

/** What came since, and no more than ten minutes. The relay that began anew begins anew here. */
function keep(fresh) {
  const known = samples.length ? samples[samples.length - 1].time_ms : 0;
  const bits = ({ rate_to_peer, rate_to_client, ...sample }) =>
    ({ ...sample, to_peer: rate_to_peer * 8, to_client: rate_to_client * 8 });
  // A clock that was set moves old samples by some milliseconds.
  samples.push(...fresh.filter((sample) => sample.time_ms > known + 1_000).map(bits));
  const last = samples.length ? samples[samples.length - 1].time_ms : 0;
  samples = samples.filter((sample) => sample.time_ms > last - KEPT_MS);
}

function showProblems({ problems, allocations, offloaded_packets: unmeasured }) {
  const list = $("problems");
  if (!problems.length) {
    const served = allocations === 1 ? "1 allocation is" : `${count(allocations)} allocations are`;
    const well = unmeasured ? `${served} served; what the kernel relays is not measured` : `${served} served well`;
    const advice = allocations ? well : "nobody is served now";
    problems = [{ id: "none", severity: "good", text: "No problems", advice }];
  }
  const told = JSON.stringify(problems);
  if (list.dataset.told === told) return;
  list.dataset.told = told;
  list.replaceChildren(...problems.map(problem));
}

/** One finding. */
export function problem({ severity, text, advice, allocations = [], count: all = 0 }) {
  const item = element("li", severity);
  item.append(element("strong", "", sentence(text)), " ", element("span", "soft", sentence(advice)));
  if (allocations.length) {
    const named = allocations.slice(0, NAMED).map((id) => link(id));
    const more = all - named.length;
    const list = element("span", "named");
    named.forEach((it) => list.append(it, " "));
    if (more > 0) list.append(element("span", "soft", `and ${count(more)} more`));
    item.append(list);
  }
  return item;
}

function link(id) {
  const made = element("a", "id", id);
  made.href = `#${id}`;
  return made;
}

function showTable({ allocations, total }) {
  const seen = new Set();
  const order = allocations.map((allocation) => {
    seen.add(allocation.id);
    const row = rows.get(allocation.id) ?? makeRow(allocation.id);
    rows.set(allocation.id, row);
    fill(row, allocation);
    return row.line;
  });
  for (const id of rows.keys()) if (!seen.has(id)) rows.delete(id);
  const body = $("allocations").tBodies[0];
  if (!order.length) {
    const cell = element("td", "empty soft", "No allocations: nobody is served now.");
    cell.colSpan = 12;
    const line = element("tr");
    line.append(cell);
    order.push(line);
  }
  // Only what moved is moved, so that whoever stands on a line stays there.
  order.forEach((line, at) => {
    if (body.children[at] !== line) body.insertBefore(line, body.children[at] ?? null);
  });
  while (body.children.length > order.length) body.lastElementChild.remove();
  const [, words] = ORDERS[sort];
  $("shown").textContent = allocations.length < total
    ? `${count(allocations.length)} of ${count(total)}: ${words}`
    : total > 1 ? `${count(total)}, ${words} first` : "";
}

function makeRow(id) {
  const line = element("tr");
  const cell = (kind) => line.appendChild(element("td", kind));
  const head = line.appendChild(element("th", "id"));
  head.scope = "row";
  head.append(link(id));
  const client = cell("address");
  const row = { line, client: client.appendChild(element("span")), relayed: cell("address wide"), rate: cell("n") };
  row.transport = client.appendChild(element("span", "mid"));
  row.spark = cell("spark").appendChild(spark());
  for (const key of ["loss_client", "loss_peer"]) row[key] = cell("n");
  for (const key of ["jitter_client", "jitter_peer", "carried", "age", "expires"]) row[key] = cell("n mid");
  return row;
}

function fill(row, it) {
  const set = (cell, text) => { if (cell.textContent !== text) cell.textContent = text; };
  set(row.client, it.client);
  set(row.transport, ` ${it.transport}`);
  set(row.relayed, it.relayed.join(" "));
  set(row.rate, kbit(it.rate_to_peer + it.rate_to_client));
  trace(row.spark, it.spark);
  const inKernel = it.relayed_by === "kernel";
  for (const leg of ["client", "peer"]) {
    const loss = inKernel ? null : it[`loss_${leg}`];
    const cell = row[`loss_${leg}`];
    set(cell, inKernel ? "kernel" : percent(loss));
    cell.className = `n ${tone(loss)}`;
    cell.title = inKernel ? IN_KERNEL : "";
    set(row[`jitter_${leg}`], inKernel ? NONE : milliseconds(it[`jitter_${leg}_s`]));
  }
  set(row.carried, megabytes(it.bytes_to_peer + it.bytes_to_client));
  set(row.age, span(it.age_s));
  set(row.expires, span(it.expires_in_s));
}

/** How a share of loss is set: what is nothing stands back. */
export function tone(loss) {
  if (loss >= BAD[1]) return "error";
  if (loss >= BAD[0]) return "warning";
  return loss >= 0.0005 ? "" : "nothing";
}

/** Reasons, those that happened most often first. */
function showTally(id, counts) {
  const list = $(id);
  const all = Object.entries(counts).sort(([, a], [, b]) => b - a);
  if (!all.length) {
    list.replaceChildren(element("li", "soft", "None."));
    return;
  }
  list.replaceChildren(...all.map(([reason, times]) => {
    const item = element("li");
    const why = element("a", "", reason.replaceAll("_", " "));
    why.href = `#why=${reason}`;
    item.append(why, element("b", "n", count(times)));
    return item;
  }));
}

function mark() {
  for (const button of document.querySelectorAll("#allocations button[data-sort]")) {
    const mine = button.dataset.sort === sort;
    button.closest("th").setAttribute("aria-sort", mine ? ORDERS[sort][0] : "none");
  }
}

document.querySelector("#allocations thead").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-sort]");
  if (!button || button.dataset.sort === sort) return;
  sort = button.dataset.sort;
  mark();
  document.dispatchEvent(new Event("again"));
});

document.querySelector("#allocations tbody").addEventListener("click", (event) => {
  if (event.target.closest("a") || getSelection().toString()) return;
  event.target.closest("tr")?.querySelector("a")?.click();
});
