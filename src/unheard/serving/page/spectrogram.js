// A spectrogram on a canvas, with axes in seconds and Hz, and an optional grid of patches on top.

const LEFT = 46, BOTTOM = 24, TOP = 4, RIGHT = 6;
const TICKS = [100, 200, 500, 1000, 2000, 4000, 8000, 16000];

export class Spectrogram {
  constructor(holder, height = 190) {
    this.holder = holder;
    this.height = height;
    this.canvas = holder.appendChild(document.createElement("canvas"));
    this.canvas.style.height = `${height}px`;
    this.data = null;
    new ResizeObserver(() => this.draw()).observe(holder);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // values: rows from the lowest band; scale: { start, hop, melHz }; limits: [low, high]; colours: 256 RGB triples
  show(values, scale, limits, colours) {
    this.data = { values, scale, limits, colours };
    const image = new ImageData(values[0].length, values.length);
    const span = limits[1] - limits[0] || 1;
    values.forEach((row, band) => row.forEach((value, frame) => {
      const level = Math.max(0, Math.min(255, Math.round(255 * (value - limits[0]) / span)));
      const at = 4 * ((values.length - 1 - band) * row.length + frame);
      image.data.set(colours[level], at);
      image.data[at + 3] = 255;
    }));
    this.image = document.createElement("canvas");
    [this.image.width, this.image.height] = [image.width, image.height];
    this.image.getContext("2d").putImageData(image, 0, 0);
    this.draw();
  }

  // Add a function (context, box) that draws over the image.
  set overlay(draw) {
    this.over = draw;
    this.draw();
  }

  get box() {
    const width = this.holder.clientWidth;
    return { left: LEFT, top: TOP, width: Math.max(10, width - LEFT - RIGHT), height: this.height - TOP - BOTTOM };
  }

  get seconds() {
    const { values, scale } = this.data;
    return [scale.start, scale.start + values[0].length * scale.hop];
  }

  draw() {
    if (!this.data || !this.holder.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.holder.clientWidth * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.holder.clientWidth, this.height);
    const { left, top, width, height } = this.box;
    context.imageSmoothingEnabled = false;
    context.drawImage(this.image, left, top, width, height);
    this.drawAxes(context);
    if (this.over) this.over(context, this.box);
  }

  drawAxes(context) {
    const { left, top, width, height } = this.box, { melHz } = this.data.scale;
    const style = getComputedStyle(document.body);
    context.fillStyle = context.strokeStyle = style.color;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    context.textBaseline = "middle";
    let lowest = Infinity;
    for (const hz of TICKS.filter((tick) => tick >= melHz[0] && tick <= melHz[melHz.length - 1])) {
      const y = top + height * (1 - (bandOf(hz, melHz) + 0.5) / melHz.length);
      if (lowest - y < 12) continue; // labels would overlap
      lowest = y;
      context.fillText(hz >= 1000 ? `${hz / 1000} kHz` : `${hz} Hz`, left - 6, Math.min(y, top + height - 5));
      context.fillRect(left - 4, y, 4, 1);
    }
    const [first, last] = this.seconds, step = niceStep((last - first) / Math.max(2, width / 80));
    context.textBaseline = "top";
    for (let tick = Math.ceil(first / step - 1e-9) * step; tick <= last + 1e-9; tick += step) {
      const x = left + width * (tick - first) / (last - first);
      context.textAlign = x > left + width - 20 ? "right" : x < left + 12 ? "left" : "center";
      context.fillText(`${Number(tick.toFixed(3))} s`, x, top + height + 7);
      context.fillRect(x, top + height, 1, 4);
    }
  }

  // Seconds at a position of the pointer.
  timeAt(event) {
    const { left, width } = this.box, [first, last] = this.seconds;
    const x = event.clientX - this.canvas.getBoundingClientRect().left;
    return first + Math.max(0, Math.min(1, (x - left) / width)) * (last - first);
  }

  xOf(seconds) {
    const { left, width } = this.box, [first, last] = this.seconds;
    return left + width * (seconds - first) / (last - first);
  }

  // Row and column of the patch at a position of the pointer, or null outside.
  patchAt(event, patch, grid) {
    const { left, top, width, height } = this.box, { values } = this.data;
    const corner = this.canvas.getBoundingClientRect();
    const x = (event.clientX - corner.left - left) / width, y = (event.clientY - corner.top - top) / height;
    if (x < 0 || x >= 1 || y < 0 || y >= 1) return null;
    const row = Math.floor((1 - y) * values.length / patch[0]), column = Math.floor(x * values[0].length / patch[1]);
    return { row: Math.min(row, grid[0] - 1), column: Math.min(column, grid[1] - 1) };
  }

  // The rectangle of a patch in pixels.
  patchBox(row, column, patch) {
    const { left, top, width, height } = this.box, { values } = this.data;
    const frames = values[0].length, bands = values.length;
    const x0 = left + width * column * patch[1] / frames, x1 = left + width * Math.min(frames, (column + 1) * patch[1]) / frames;
    const y0 = top + height * (1 - (row + 1) * patch[0] / bands), y1 = top + height * (1 - row * patch[0] / bands);
    return [x0, y0, x1 - x0, y1 - y0];
  }
}

function bandOf(hz, melHz) {
  const above = melHz.findIndex((centre) => centre >= hz);
  if (above <= 0) return 0;
  return above - 1 + (hz - melHz[above - 1]) / (melHz[above] - melHz[above - 1]);
}

export function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough - 1e-12);
}

// Colour limits that leave out extreme values.
export function limitsOf(values, low = 0.01, high = 0.997) {
  const sorted = Float64Array.from(values.flat()).sort();
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  return [at(low), Math.max(at(high), at(low) + 1e-3)];
}
