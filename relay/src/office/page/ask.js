// One dialog: for the token, and for a last word before something changes.

import { request, token } from "./api.js";

const $ = (id) => document.getElementById(id);

/** Asks; gives what was typed as the token, or null if it was cancelled. */
function ask({ title, text, act, danger = false, wrong = "", wants = true }) {
  const dialog = $("ask");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-do").textContent = act;
  $("ask-do").className = danger ? "danger" : "primary";
  $("ask-token").hidden = !wants;
  $("token").required = wants;
  $("token").value = "";
  $("ask-wrong").textContent = wrong;
  $("ask-wrong").hidden = !wrong;
  dialog.returnValue = "";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const typed = $("token").value.trim();
      $("token").value = "";
      resolve(dialog.returnValue === "do" ? typed : null);
    }, { once: true });
    dialog.showModal();
    (wants ? $("token") : $("ask-do")).focus();
  });
}

/** Asks for the token until one lets us read, and keeps it; false if it was cancelled. */
export async function askForToken(text) {
  let wrong = "";
  for (;;) {
    const typed = await ask({ title: "Token", text, act: "Use it", wrong });
    if (typed === null) return false;
    wrong = await refusal(typed);
    if (wrong) continue;
    token.set(typed);
    document.dispatchEvent(new Event("token"));
    return true;
  }
}

/** Why a token is no good. A request that changes nothing is refused without it all the same. */
async function refusal(typed) {
  try {
    await request("DELETE", "/v1/allocations/none", { token: typed });
  } catch (refused) {
    // The name of no allocation is looked at behind the door only.
    if (refused.status === 400) return "";
    return refused.status === 401 ? "This is not the token." : refused.message;
  }
  return "";
}

/** Does what changes something, after a last word, with the token; the answer, or null. */
export async function change({ title, text, act, danger, work }) {
  let wrong = "";
  for (;;) {
    const wants = token.get() === "";
    const typed = await ask({ title, text, act, danger, wrong, wants });
    if (typed === null) return null;
    if (wants) token.set(typed);
    try {
      const done = await work();
      document.dispatchEvent(new Event("token"));
      return done;
    } catch (refused) {
      if (refused.status !== 401) throw refused;
      token.forget();
      wrong = "This is not the token.";
    }
  }
}
