// Points on a canvas: the nearest one under the pointer, a lasso, and arrow keys.

const HEIGHT = 480, MARGIN = 14, REACH = 14, RADIUS = 4;

export class Scatter {
  // onPoint: (point or null, clicked); onSelect: (points)
  constructor(holder, { onPoint, onSelect }) {
    Object.assign(this, { holder, onPoint, onSelect, points: [], places: [], colours: [], lasso: null, current: null, selected: new Set() });
    this.canvas = holder.appendChild(document.createElement("canvas"));
    this.canvas.style.height = `${HEIGHT}px`;
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", "Map of files. Arrow keys go to the nearest file in that direction, Enter plays it.");
    new ResizeObserver(() => this.draw()).observe(holder);
    this.canvas.addEventListener("pointerdown", (event) => this.down(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    this.canvas.addEventListener("pointerup", (event) => this.up(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  show(points, places, colours) {
    Object.assign(this, { points, places, colours });
    this.draw();
  }

  // Positions in pixels; y grows downwards.
  layout() {
    const width = this.holder.clientWidth, spans = [0, 1].map((axis) => {
      const values = this.places.map((place) => place[axis]);
      return [Math.min(...values), Math.max(...values)];
    });
    const scaled = (value, axis, size) => MARGIN + (size - 2 * MARGIN) * (value - spans[axis][0]) / (spans[axis][1] - spans[axis][0] || 1);
    this.pixels = this.places.map((place) => [scaled(place[0], 0, width), HEIGHT - scaled(place[1], 1, HEIGHT)]);
  }

  draw() {
    const width = this.holder.clientWidth, ratio = window.devicePixelRatio || 1;
    if (!width || !this.places.length) return;
    this.layout();
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(HEIGHT * ratio);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const some = this.selected.size > 0;
    this.pixels.forEach(([x, y], at) => {
      context.globalAlpha = some && !this.selected.has(at) ? 0.2 : 0.85;
      context.fillStyle = this.colours[at];
      context.beginPath();
      context.arc(x, y, RADIUS, 0, 7);
      context.fill();
    });
    context.globalAlpha = 1;
    context.strokeStyle = getComputedStyle(document.body).color;
    context.lineWidth = 2;
    if (this.current !== null) {
      context.beginPath();
      context.arc(...this.pixels[this.current], RADIUS + 4, 0, 7);
      context.stroke();
    }
    if (this.lasso && this.lasso.length > 2) {
      context.setLineDash([4, 3]);
      context.beginPath();
      this.lasso.forEach((corner) => context.lineTo(...corner));
      context.closePath();
      context.stroke();
      context.setLineDash([]);
    }
  }

  at(event) {
    const corner = this.canvas.getBoundingClientRect();
    return [event.clientX - corner.left, event.clientY - corner.top];
  }

  nearest([x, y], reach = REACH) {
    let best = null, distance = reach;
    this.pixels.forEach((place, at) => {
      const far = Math.hypot(place[0] - x, place[1] - y);
      if (far < distance) [best, distance] = [at, far];
    });
    return best;
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.lasso = [this.at(event)];
  }

  move(event) {
    if (this.lasso) {
      this.lasso.push(this.at(event));
      this.draw();
      return;
    }
    const found = this.nearest(this.at(event));
    if (found === this.current) return;
    this.current = found;
    this.draw();
    this.onPoint(found === null ? null : this.points[found], false);
  }

  up(event) {
    if (!this.lasso) return;
    const path = this.lasso, here = this.at(event);
    this.lasso = null;
    const moved = path.some(([x, y]) => Math.hypot(x - path[0][0], y - path[0][1]) > 8);
    if (moved) {
      this.selected = new Set(this.pixels.flatMap((place, at) => (inside(place, path) ? [at] : [])));
    } else {
      this.selected = new Set();
      this.current = this.nearest(here, 2 * REACH);
      if (this.current !== null) this.onPoint(this.points[this.current], true);
    }
    this.onSelect([...this.selected].map((at) => this.points[at]));
    this.draw();
  }

  key(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter" && this.current !== null) this.onPoint(this.points[this.current], true);
    else if (way) {
      this.current = this.current === null ? 0 : this.towards(way);
      this.draw();
      this.onPoint(this.points[this.current], false);
    } else return;
    event.preventDefault();
  }

  // The point that is nearest in a direction; points far to the side count as farther.
  towards([dx, dy]) {
    const [x, y] = this.pixels[this.current];
    let best = this.current, distance = Infinity;
    this.pixels.forEach((place, at) => {
      const along = (place[0] - x) * dx + (place[1] - y) * dy, across = Math.abs((place[0] - x) * dy) + Math.abs((place[1] - y) * dx);
      if (along > 0.5 && along + 2 * across < distance) [best, distance] = [at, along + 2 * across];
    });
    return best;
  }
}

function inside([x, y], path) {
  let within = false;
  path.forEach(([x0, y0], at) => {
    const [x1, y1] = path[(at + 1) % path.length];
    if ((y0 > y) !== (y1 > y) && x < x0 + (x1 - x0) * (y - y0) / (y1 - y0)) within = !within;
  });
  return within;
}
