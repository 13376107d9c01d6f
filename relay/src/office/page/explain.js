// Why somebody was refused: a reason, an allocation or a client, in the relay's words.

import { get, sentence } from "./api.js";
import { showEntries } from "./entries.js";
import { problem } from "./overview.js";
import { element } from "./plot.js";

const $ = (id) => document.getElementById(id);

let subject = "";

export const explain = {
  open(asked) {
    subject = asked;
    $("about").textContent = asked;
    $("summary").textContent = "";
    $("findings").replaceChildren();
    $("entries-section").hidden = true;
    $("about").focus({ preventScroll: true });
  },

  async update(_state, current) {
    let answer;
    try {
      answer = await get(`/v1/explain?subject=${encodeURIComponent(subject)}`);
    } catch (refused) {
      if (refused.status !== 400 && refused.status !== 404) throw refused;
      if (current()) $("summary").textContent = refused.message;
      return;
    }
    const reason = answer.kind === "reason" && (await catalogue()).find((it) => it.id === subject);
    if (!current()) return;
    $("summary").textContent = sentence(answer.summary);
    const told = answer.findings.map((it) => problem({ severity: "warning", ...it }));
    // What a reason means comes before how often it was.
    if (reason) told.unshift(problem({ severity: "note", text: reason.help, advice: reason.advice }));
    $("findings").replaceChildren(...told);
    $("entries-section").hidden = !answer.entries.length;
    showEntries($("entries"), answer.entries);
  },
};

let reasons = null;

/** Every refusal and drop there is; asked for once. */
async function catalogue() {
  reasons ??= await get("/v1/reasons");
  return reasons;
}

/** Offers their names to who searches. */
export async function offer(list) {
  if (list.children.length) return;
  const all = await catalogue();
  const names = new Set(all.map((it) => it.id));
  list.replaceChildren(...[...names].sort().map((name) => {
    const option = element("option");
    option.value = name;
    return option;
  }));
}
