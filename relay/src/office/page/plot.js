// Some minutes as a line or two, drawn on a canvas; and the small line of a table's row.
//
// A plot covers ten minutes, and fewer while less is known, so that what is young can be seen.
// What comes from the client has the accent colour everywhere, what comes from the peer the other.
// A plot shows its last values in words, or those under the pointer; arrow keys move along it.

import { NONE, time } from "./format.js";

const MINUTES = [1, 2, 5, 10];
const MINUTE_MS = 60_000;
const PAD = { top: 8, right: 2, bottom: 16, left: 2 };

export class Plot {
  /** `series`: [{ name, key, tone }]; `show`: a value in words; `floor`: the least the top stands for. */
  constructor(figure, { title, series, show, floor }) {
    Object.assign(this, { series, show, floor, samples: [], cursor: null });
    const legend = element("p", "legend");
    this.figures = series.map(({ name, tone }) => {
      const figure = element("span", "figure");
      const value = element("b");
      if (name) figure.append(element("i", tone), element("span", "", name));
      figure.append(value);
      legend.append(figure);
      return value;
    });
    this.moment = element("span", "moment");
    const caption = element("figcaption");
    caption.append(element("h2", "", title), this.moment, legend);
    this.canvas = element("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.title = title;
    figure.append(caption, this.canvas);
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("keydown", (event) => this.step(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  set(samples) {
    this.samples = samples;
    this.draw();
  }

  /** The sample nearest to a place of the pointer. */
  point(x) {
    this.cursor = x === null ? null : this.nearest(x);
    this.draw();
  }

  step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.samples.length) return;
    event.preventDefault();
    const last = this.samples.length - 1;
    this.cursor = Math.min(last, Math.max(0, (this.cursor ?? last) + by));
    this.draw();
  }

  nearest(x) {
    let best = null;
    let least = Infinity;
    this.samples.forEach((sample, at) => {
      const far = Math.abs(this.x(sample.time_ms) - x);
      if (far < least) [best, least] = [at, far];
    });
    return best;
  }

  x(at) {
    const width = this.canvas.clientWidth - PAD.left - PAD.right;
    return PAD.left + width * (1 - (this.end - at) / this.span);
  }

  draw() {
    const { canvas, samples, series } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const ink = canvas.getContext("2d");
    ink.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    this.end = samples.length ? samples[samples.length - 1].time_ms : Date.now();
    const known = samples.length ? this.end - samples[0].time_ms : 0;
    const minutes = MINUTES.find((it) => it * MINUTE_MS >= known) ?? MINUTES.at(-1);
    this.span = minutes * MINUTE_MS;

    const values = samples.flatMap((sample) => series.map(({ key }) => sample[key] ?? 0));
    const top = nice(Math.max(this.floor, ...values));
    const ground = height - PAD.bottom;
    const y = (value) => ground - (ground - PAD.top) * (value / top);

    ink.font = `11px ${style.fontFamily}`;
    ink.fillStyle = colour("faint");
    ink.lineWidth = 1;
    for (const [value, tone] of [[top, "grid"], [top / 2, "grid"], [0, "line"]]) {
      ink.strokeStyle = colour(tone);
      ink.beginPath();
      ink.moveTo(PAD.left, Math.round(y(value)) + 0.5);
      ink.lineTo(width - PAD.right, Math.round(y(value)) + 0.5);
      ink.stroke();
    }
    ink.textBaseline = "bottom";
    for (const [words, at, align] of [[`${minutes} min ago`, PAD.left, "left"], ["now", width - PAD.right, "right"]]) {
      ink.textAlign = align;
      ink.fillText(words, at, height);
    }
    ink.textBaseline = "top";
    ink.textAlign = "left";
    const label = this.show(top);

    const tones = series.map(({ tone }) => colour(tone));
    series.forEach(({ key }, at) => this.line(ink, key, y, ground, tones[at], at === 0 ? colour("wash") : null));
    this.label(ink, label, colour);
    const sample = samples[this.cursor ?? samples.length - 1];
    if (this.cursor !== null && sample) {
      ink.strokeStyle = colour("faint");
      ink.beginPath();
      ink.moveTo(Math.round(this.x(sample.time_ms)) + 0.5, PAD.top);
      ink.lineTo(Math.round(this.x(sample.time_ms)) + 0.5, ground);
      ink.stroke();
      series.forEach(({ key }, at) => {
        if (sample[key] == null) return;
        ink.fillStyle = tones[at];
        ink.beginPath();
        ink.arc(this.x(sample.time_ms), y(sample[key]), 3, 0, 7);
        ink.fill();
      });
    }
    this.tell(sample);
  }

  /** What the top line stands for, on a ground of its own, above the lines. */
  label(ink, words, colour) {
    const width = ink.measureText(words).width;
    ink.fillStyle = colour("surface");
    ink.fillRect(PAD.left, PAD.top + 2, width + 6, 13);
    ink.fillStyle = colour("faint");
    ink.fillText(words, PAD.left, PAD.top + 3);
  }

  /** One series; where nothing is known the line breaks, and a lone value is a dot. */
  line(ink, key, y, ground, tone, wash) {
    const pieces = [[]];
    let before = null;
    for (const sample of this.samples) {
      const gap = before !== null && sample.time_ms - before > 12_000;
      if ((sample[key] == null || gap) && pieces[pieces.length - 1].length) pieces.push([]);
      before = sample.time_ms;
      if (sample[key] != null) pieces[pieces.length - 1].push([this.x(sample.time_ms), y(sample[key])]);
    }
    ink.strokeStyle = tone;
    ink.fillStyle = tone;
    ink.lineWidth = 1.5;
    ink.lineJoin = "round";
    for (const piece of pieces.filter((piece) => piece.length)) {
      ink.beginPath();
      if (piece.length === 1) {
        ink.arc(...piece[0], 1.5, 0, 7);
        ink.fill();
        continue;
      }
      piece.forEach(([x, y]) => ink.lineTo(x, y));
      ink.stroke();
      if (!wash) continue;
      ink.lineTo(piece[piece.length - 1][0], ground);
      ink.lineTo(piece[0][0], ground);
      ink.fillStyle = wash;
      ink.fill();
      ink.fillStyle = tone;
    }
    ink.lineWidth = 1;
  }

  tell(sample) {
    const words = this.series.map(({ key }) => (sample?.[key] == null ? NONE : this.show(sample[key])));
    const unit = (word) => word.slice(word.lastIndexOf(" "));
    words.forEach((word, at) => {
      // A unit that both have stands once.
      const again = at === 0 && words.length > 1 && word.includes(" ") && unit(word) === unit(words[1]);
      this.figures[at].textContent = again ? word.slice(0, word.lastIndexOf(" ")) : word;
    });
    this.moment.textContent = this.cursor === null || !sample ? "" : time(sample.time_ms);
    const told = this.series.map(({ name }, at) => `${name} ${words[at]}`.trim()).join(", ");
    this.canvas.setAttribute("aria-label", `${this.title}: ${told}. Arrow keys go back in time.`);
  }
}

/** The next of 1, 2, 5, 10, … */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, PLACES] = [72, 18, 24];

/** An empty small line. */
export function spark() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "path"), document.createElementNS(SVG, "path"));
  return svg;
}

/** Draws values into it over a ground that is zero, the newest at the right. */
export function trace(svg, values) {
  const top = Math.max(1, ...values);
  const across = (at) => WIDTH - 1 - ((values.length - 1 - at) * (WIDTH - 2)) / (PLACES - 1);
  const place = (value, at) =>
    `${across(at).toFixed(1)} ${(HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(1)}`;
  const line = values.length ? `M${values.map(place).join("L")}${values.length === 1 ? "h1" : ""}` : "";
  const [area, edge] = svg.children;
  edge.setAttribute("d", line);
  area.setAttribute("d", line && `${line}V${HEIGHT}H${across(0).toFixed(1)}Z`);
}

export function element(name, kind = "", text = "") {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text) made.textContent = text;
  return made;
}
