// The page of one relay: which view is shown, how often it asks, and whether the relay answers.
//
// The fragment of the address says what is looked at: nothing is the overview, #0-12-3 an
// allocation, #why=SUBJECT an explanation. So every view can be sent to a colleague.
//
// The stream of events says when to ask; figures that no event tells are asked for at the pace of the
// relay's samples, and faster while no stream flows.

import { allocation } from "./allocation.js";
import { get, token } from "./api.js";
import { askForToken } from "./ask.js";
import { Stream } from "./events.js";
import { explain, offer } from "./explain.js";
import { roughly, time } from "./format.js";
import { overview } from "./overview.js";

const EVERY_MS = 2_500;
const FLOWING_MS = 5_000;
const HIDDEN_MS = 30_000;
const AGAIN_MS = 1_500;
/** Between an event and the question, as events seldom come alone. */
const SOON_MS = 300;
/** Events may come in crowds; questions do not. */
const SELDOM_MS = 2_000;

const $ = (id) => document.getElementById(id);
const views = { overview, allocation, explain };
let view = overview;
let timer = 0;
let turn = 0;
let asked = 0;
let asking = false;
/** Whether something happened that the question under way may not show. */
let stale = false;
let flowing = false;
let lostSince = null;
/** Whether somebody was asked for the token that reading wants, and said no. */
let declined = false;

/** What the fragment names. */
function wanted() {
  const fragment = decodeURIComponent(location.hash.slice(1));
  if (/^\d+-\d+-\d+$/.test(fragment)) return [allocation, fragment];
  if (fragment.startsWith("why=")) return [explain, fragment.slice(4)];
  return [overview, ""];
}

function route() {
  const [next, subject] = wanted();
  for (const [name, it] of Object.entries(views)) $(name).hidden = it !== next;
  view = next;
  view.open(subject);
  scrollTo(0, 0);
  refresh();
}

/** Asks now, and from then on again and again. An answer that comes behind a later one is nothing. */
async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  [asked, asking, stale] = [performance.now(), true, false];
  let failed = false;
  try {
    const state = await get("/v1/overview");
    if (mine !== turn) return;
    head(state);
    await view.update(state, () => mine === turn);
    if (mine !== turn) return;
    found();
  } catch (refusal) {
    if (mine !== turn) return;
    failed = true;
    await trouble(refusal);
  }
  if (mine !== turn) return;
  asking = false;
  if (stale) soon();
  else timer = setTimeout(refresh, failed ? AGAIN_MS : pace());
}

function pace() {
  if (document.hidden) return HIDDEN_MS;
  return flowing ? FLOWING_MS : EVERY_MS;
}

/** Asks because something happened. */
function soon() {
  if (asking) {
    stale = true;
    return;
  }
  clearTimeout(timer);
  const rested = performance.now() - asked;
  timer = setTimeout(refresh, Math.max(SOON_MS, SELDOM_MS - rested));
}

const stream = new Stream({
  heard(name, data) {
    if (overview.heard(name, data) || name === "problem") soon();
  },
  flows(is) {
    if (is === flowing) return;
    flowing = is;
    $("live").textContent = is ? "live" : `asks every ${EVERY_MS / 1_000} s`;
    soon();
  },
});

/** Reads events while somebody looks: the relay has few places for those who do. */
function attend() {
  if (document.hidden) stream.leave();
  else stream.follow();
}

async function trouble(refusal) {
  if (refusal.status === 401 && !declined) {
    declined = !(await askForToken("This relay shows what it knows to those who have its token."));
    access();
    return;
  }
  lostSince ??= Date.now();
  $("lost").textContent = refusal.status
    ? refusal.message
    : `No answer from the relay since ${time(lostSince)}. What is shown is old; trying again.`;
  $("lost").hidden = false;
  document.body.classList.toggle("old", !refusal.status);
  if (!(refusal.status || refusal.name === "Refusal")) console.error(refusal);
}

function found() {
  lostSince = null;
  $("lost").hidden = true;
  document.body.classList.remove("old");
}

function head(state) {
  const name = state.node || "A/V Edge";
  $("node").textContent = name;
  document.title = state.problems.length ? `(${state.problems.length}) ${name}` : name;
  const words = state.draining ? "Draining" : "Serving";
  $("state").className = state.draining ? "state draining" : "state";
  $("state").textContent = `${words} for ${roughly(state.uptime_s)}`;
}

function access() {
  const known = token.get() !== "";
  $("access").textContent = known ? "Forget token" : "Enter token";
  $("access").title = known
    ? "Allocations can be ended and captured from here" : "Read only: allocations can be ended and captured with the token";
}

$("access").addEventListener("click", async () => {
  if (token.get()) token.forget();
  else await askForToken("With the token, allocations can be ended and captured from here.");
  declined = false;
  access();
  refresh();
});

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const subject = $("subject").value.trim();
  if (!subject) return;
  location.hash = /^\d+-\d+-\d+$/.test(subject) ? subject : `why=${encodeURIComponent(subject)}`;
  $("subject").value = "";
  $("subject").blur();
});

// Without names to choose from, any can be typed.
$("subject").addEventListener("focus", () => offer($("reasons")).catch(() => {}));

addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, textarea") || document.querySelector("dialog[open]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    $("subject").focus();
  }
});
document.addEventListener("token", () => {
  access();
  stream.leave();
  attend();
});
document.addEventListener("again", refresh);
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => {
  attend();
  if (!document.hidden) refresh();
});

access();
route();
attend();
