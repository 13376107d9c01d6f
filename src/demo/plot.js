// One live plot: a minute of samples on a canvas, with axes, in the colours of the page.

const SPAN_MS = 60_000;
const PAD = { left: 44, right: 6, top: 8, bottom: 20 };

// A round number that is not below x.
function ceiling(x) {
  const power = 10 ** Math.floor(Math.log10(x));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((top) => top >= x * 0.999);
}

function label(value) {
  if (value >= 10_000) return `${+(value / 1000).toFixed(1)}k`;
  return `${+value.toPrecision(3)}`;
}

export class Plot {
  // series: [{ name, color }] with color the name of a CSS variable; least: smallest full scale.
  constructor(canvas, { series, unit, least, title }) {
    Object.assign(this, { canvas, series, unit, least, title, samples: [] });
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  clear() {
    this.samples = [];
    this.draw();
  }

  // values: one for each series; null where there is none yet.
  add(at, values) {
    this.samples.push({ at, values });
    while (this.samples.length && this.samples[0].at < at - SPAN_MS - 2000) this.samples.shift();
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const box = {
      x: PAD.left, y: PAD.top,
      w: width - PAD.left - PAD.right, h: height - PAD.top - PAD.bottom,
    };
    const highest = Math.max(0, ...this.samples.flatMap((sample) => sample.values));
    const top = ceiling(Math.max(highest * 1.08, this.least));
    const end = this.samples.at(-1)?.at ?? 0;
    const x = (at) => box.x + box.w * (1 - (end - at) / SPAN_MS);
    const y = (value) => box.y + box.h * (1 - value / top);

    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = color("--soft");
    pen.strokeStyle = color("--grid");
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const part of [0, 0.5, 1]) {
      const level = Math.round(y(top * part)) + 0.5;
      pen.beginPath();
      pen.moveTo(box.x, level);
      pen.lineTo(box.x + box.w, level);
      pen.stroke();
      pen.fillText(label(top * part), box.x - 8, level);
    }
    pen.textBaseline = "alphabetic";
    for (const [seconds, align] of [[60, "left"], [30, "center"], [0, "right"]]) {
      pen.textAlign = align;
      pen.fillText(seconds ? `${seconds} s ago` : "now", x(end - seconds * 1000), height - 4);
    }

    pen.save();
    pen.beginPath();
    pen.rect(box.x, 0, box.w + 2, height);
    pen.clip();
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.lineCap = "round";
    // The first series lies on top.
    [...this.series.keys()].reverse().forEach((index) => {
      pen.strokeStyle = color(this.series[index].color);
      pen.beginPath();
      let down = false;
      for (const { at, values } of this.samples) {
        const value = values[index];
        if (value === null) {
          down = false;
        } else if (down) {
          pen.lineTo(x(at), y(value));
        } else {
          pen.moveTo(x(at), y(value));
          down = true;
        }
      }
      pen.stroke();
    });
    pen.restore();
    this.describe();
  }

  // The same in words, for those who cannot see the picture.
  describe() {
    const latest = this.samples.at(-1);
    const words = this.series.map(({ name }, index) => {
      const value = latest?.values[index];
      return value == null ? `${name}: nothing yet` : `${name}: ${label(value)} ${this.unit}`;
    });
    this.canvas.setAttribute("aria-label", `${this.title} over the last minute. ${words.join("; ")}`);
  }
}
