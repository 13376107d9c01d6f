// What happened, a line for each.

import { sentence } from "./api.js";
import { count, time } from "./format.js";
import { element } from "./plot.js";

/** All of it, the newest first; the allocation that is looked at is not named again. */
export function showEntries(list, entries, own = "") {
  const newest = [...entries].sort((a, b) => b.at_ms - a.at_ms);
  list.replaceChildren(...newest.map((it) => entry(it, { own })));
}

/** One line. */
export function entry(it, { own = "", withClient = false }) {
  const item = element("li");
  const at = element("time", "", time(it.at_ms));
  at.dateTime = new Date(it.at_ms).toISOString();
  item.append(at, element("span", "what", it.what.replaceAll("_", " ")));
  const words = element("span", "", sentence(it.text));
  if (it.code && !it.text.includes(it.code)) words.append(" ", element("span", "soft", `Code ${it.code}.`));
  if (it.count > 1) words.append(" ", element("b", "", `${count(it.count)} times.`));
  if (it.allocation && it.allocation !== own) words.append(" ", link(it.allocation, `#${it.allocation}`));
  if (withClient && !it.text.includes(it.client)) words.append(" ", link(it.client, `#why=${encodeURIComponent(it.client)}`));
  item.append(words);
  return item;
}

function link(text, to) {
  const made = element("a", "id", text);
  made.href = to;
  return made;
}
