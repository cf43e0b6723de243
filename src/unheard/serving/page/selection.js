// Choose a part of a sound by dragging over its spectrogram, or with the arrow keys.

const LEAST = 0.05, STEP = 0.1; // seconds

export class Selection {
  // onChange: called with [start, end] in seconds, or null; onDone: when the choice ends
  constructor(plot, holder, onChange, onDone = () => {}) {
    Object.assign(this, { plot, onChange, onDone, part: null, origin: null });
    holder.tabIndex = 0;
    holder.setAttribute("role", "application");
    holder.setAttribute("aria-label", "Spectrogram. Drag to choose a part. Left and right move the part, Shift with left and right changes its length, Escape chooses all.");
    holder.addEventListener("pointerdown", (event) => {
      if (!plot.data) return;
      this.origin = plot.timeAt(event);
      holder.setPointerCapture(event.pointerId);
    });
    holder.addEventListener("pointermove", (event) => {
      if (this.origin === null) return;
      const here = plot.timeAt(event);
      if (Math.abs(here - this.origin) >= LEAST) this.set([Math.min(here, this.origin), Math.max(here, this.origin)]);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      holder.addEventListener(end, (event) => {
        if (this.origin === null) return;
        const click = Math.abs(plot.timeAt(event) - this.origin) < LEAST;
        this.origin = null;
        if (click) this.set(null);
        this.onDone();
      });
    }
    holder.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (!this.plot.data) return;
    const [first, last] = this.plot.seconds, part = this.part || [first, Math.min(last, first + 1)];
    const step = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
    if (step && event.shiftKey) this.set([part[0], Math.max(part[0] + LEAST, Math.min(last, part[1] + step))]);
    else if (step && part[0] + step >= first - 1e-9 && part[1] + step <= last + 1e-9) this.set([Math.max(first, part[0] + step), part[1] + step]);
    else if (event.key === "Escape") this.set(null);
    else if (event.key === "Enter") this.onDone();
    else if (!step) return;
    event.preventDefault();
  }

  set(part) {
    this.part = part;
    this.plot.overlay = (context, box) => {
      if (!this.part) return;
      const [x0, x1] = this.part.map((time) => this.plot.xOf(time));
      context.fillStyle = "#00000090";
      context.fillRect(box.left, box.top, x0 - box.left, box.height);
      context.fillRect(x1, box.top, box.left + box.width - x1, box.height);
      context.strokeStyle = "#ffffff";
      context.lineWidth = 2;
      context.strokeRect(x0, box.top, x1 - x0, box.height);
    };
    this.onChange(part);
  }

  clear() {
    this.set(null);
  }
}
