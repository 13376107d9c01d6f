// Numbers as people read them: one unit a column, digits that stand below each other.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const few = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat("en", {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

export const NONE = "–";

export const count = (value) => whole.format(value);
export const tenths = (value) => one.format(value);
export const kbit = (bytesPerS) => whole.format((bytesPerS * 8) / 1e3);
export const megabytes = (bytes) => one.format(bytes / 1e6);
export const percent = (ratio) => (ratio == null ? NONE : one.format(ratio * 100));
export const milliseconds = (seconds) => (seconds == null ? NONE : one.format(seconds * 1e3));
export const time = (ms) => clock.format(new Date(ms));

/** 1:02:03, or 2:03. */
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const [h, m] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  return h > 0 ? `${whole.format(h)}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
}

/** 3 days, 4 hours, 12 minutes. */
export function roughly(seconds) {
  for (const [unit, size] of [["day", 86_400], ["hour", 3_600], ["minute", 60]]) {
    const n = Math.floor(seconds / size);
    if (n > 0) return `${whole.format(n)} ${unit}${n === 1 ? "" : "s"}`;
  }
  return "less than a minute";
}

function scaled(value, steps) {
  const step = steps.find(([size]) => value >= size) ?? steps[steps.length - 1];
  return `${few.format(value / step[0])} ${step[1]}`;
}

export const bitrate = (bitsPerS) =>
  scaled(bitsPerS, [[1e9, "Gbit/s"], [1e6, "Mbit/s"], [1e3, "kbit/s"], [1, "bit/s"]]);
export const share = (ratio) => `${hundredths.format(ratio * 100)} %`;
export const duration = (seconds) =>
  scaled(seconds, [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]]);
