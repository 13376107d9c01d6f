// The relay's API: requests, the token, and what went wrong in words.
//
// The token is kept for this tab alone, and sent only when there is one.

const KEY = "av-edge token";
const PATIENCE_MS = 10_000;

/** What the relay refused, or that it does not answer (status 0). */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

/** An answer as it comes; throws a Refusal for every other. */
export async function request(method, path, options = {}) {
  const headers = {};
  const known = options.token ?? token.get();
  if (known) headers.authorization = `Bearer ${known}`;
  let response;
  try {
    const signal = AbortSignal.timeout(options.patience ?? PATIENCE_MS);
    response = await fetch(path, { method, headers, signal, cache: "no-store" });
  } catch {
    throw new Refusal(0, "The relay does not answer.");
  }
  if (response.ok) return response;
  let detail = `The relay answers ${response.status}.`;
  try {
    detail = sentence((await response.json()).detail ?? detail);
  } catch {
    // Not a word of ours.
  }
  throw new Refusal(response.status, detail);
}

export async function get(path) {
  const response = await request("GET", path);
  try {
    return await response.json();
  } catch {
    throw new Refusal(0, "The relay's answer broke off.");
  }
}

/** With a capital at the begin, unless a stable name stands there, and a full stop at the end. */
export function sentence(text) {
  if (!text) return "";
  const begun = /^\w+_/.test(text) ? text : text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
