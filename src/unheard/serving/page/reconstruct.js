// Reconstruction: a window of a sound, a mask that is chosen or painted, the result, its sound, and attention.

import { get, post, postForBlob } from "./api.js";
import { magma, viridis } from "./colours.js";
import { byId, fill } from "./elements.js";
import { attempt, showError } from "./message.js";
import { createPicker } from "./picker.js";
import { audioOf, playButton } from "./player.js";
import { Spectrogram, limitsOf } from "./spectrogram.js";

export function start(view, status) {
  const input = new Spectrogram(byId("input-plot")), drawn = new Spectrogram(byId("drawn-plot"));
  const wrong = new Spectrogram(byId("error-plot")), looked = new Spectrogram(byId("attention-plot"));
  const state = { sound: null, window: null, hidden: null, seed: 0, cursor: { row: 0, column: 0 }, reference: null };

  const scale = () => ({ start: state.window.start, hop: state.window.hop_seconds, melHz: state.window.mel_hz });
  const asked = () => ({
    sound: state.sound.id, start: state.window.start, seed: state.seed, mask_ratio: Number(byId("ratio").value),
    ...(byId("mask").value === "painted" ? { hidden: state.hidden } : { mask: byId("mask").value }),
  });

  // Only the newest request counts: while one runs, the next waits, and those between are dropped.
  let running = false, again = false;
  async function update() {
    if (!state.window || !status.reconstructs) return;
    if (running) { again = true; return; }
    running = true;
    const sound = state.sound, window = state.window;
    const result = await attempt(() => post("/api/reconstruct", asked()));
    running = false;
    if (again) { again = false; update(); return; }
    if (!result || state.sound !== sound || state.window !== window) return;
    state.hidden = result.hidden;
    byId("sentence").textContent = result.sentence;
    byId("command").textContent = result.command;
    drawn.show(result.drawn, scale(), state.limits, magma);
    const error = result.drawn.map((row, band) => row.map((value, frame) => Math.abs(value - window.spec[band][frame])));
    wrong.show(error, scale(), [0, limitsOf(error)[1]], viridis);
    drawGrid();
  }

  function drawGrid() {
    input.overlay = (context) => {
      if (!state.hidden) return;
      const patch = state.window.patch_size;
      state.hidden.forEach((row, at) => row.forEach((masked, column) => {
        const box = input.patchBox(at, column, patch);
        if (masked) {
          context.fillStyle = "#6b7280f0";
          context.fillRect(...box);
        }
        context.strokeStyle = "#ffffff66";
        context.lineWidth = 0.5;
        context.strokeRect(...box);
      }));
      outline(context, input, state.cursor, document.activeElement === byId("input-plot") ? "#ffd166" : null);
      outline(context, input, state.reference, "#4cc9f0");
    };
    drawn.overlay = (context) => state.hidden.forEach((row, at) => row.forEach((masked, column) => {
      if (masked) return;
      context.strokeStyle = "#ffffffb0";
      context.lineWidth = 1;
      context.strokeRect(...drawn.patchBox(at, column, state.window.patch_size));
    }));
  }

  function outline(context, plot, place, colour) {
    if (!place || !colour) return;
    context.strokeStyle = colour;
    context.lineWidth = 2.5;
    context.strokeRect(...plot.patchBox(place.row, place.column, state.window.patch_size));
  }

  async function loadWindow(startSeconds) {
    const sound = state.sound;
    const found = await attempt(() => get(`/api/sounds/${sound.id}/window?start=${startSeconds}`));
    if (!found || state.sound !== sound) return;
    const sameGrid = state.window && String(state.window.grid) === String(found.grid);
    state.window = found;
    state.limits = limitsOf(found.spec);
    state.reference = null;
    byId("attention-figure").hidden = true;
    if (!sameGrid) {
      state.hidden = null;
      state.cursor = { row: 0, column: 0 };
      if (byId("mask").value === "painted") byId("mask").value = "random";
    }
    setStart(found);
    byId("input-note").textContent = `${found.name}; gray patches are masked`;
    input.show(found.spec, scale(), state.limits, magma);
    if (!status.reconstructs) byId("sentence").textContent = `This model cannot reconstruct: ${status.reason}.`;
    await update();
  }

  function setStart(found) {
    const latest = Math.max(0, found.seconds - found.hop_seconds * found.spec[0].length);
    byId("start-row").hidden = latest < 0.05;
    Object.assign(byId("start"), { max: latest.toFixed(2), value: found.start });
    byId("start-text").textContent = `${found.start.toFixed(2)} s of ${found.seconds.toFixed(2)} s`;
  }

  async function attend({ row, column }) {
    state.reference = { row, column };
    const layer = Number(byId("layer").value), head = Number(byId("head").value) || null;
    const body = { sound: state.sound.id, start: state.window.start, row, column, layer, head };
    const found = await attempt(() => post("/api/attention", body));
    if (!found) return;
    const [bands, frames] = state.window.patch_size, { spec } = state.window;
    const wide = spec.map((line, band) => line.map((_, frame) => found.weights[Math.floor(band / bands)][Math.floor(frame / frames)]));
    byId("attention-figure").hidden = false;
    byId("attention-note").textContent = `of the outlined patch, layer ${found.layer}, ${found.head ? `head ${found.head}` : "mean over heads"}; bright is up to ${Math.max(...found.weights.flat()).toFixed(1)} times uniform attention`;
    looked.show(wide, scale(), [0, Math.max(1.5, limitsOf(wide)[1])], viridis);
    looked.overlay = (context) => outline(context, looked, state.reference, "#ffffff");
    drawGrid();
  }

  function paint(place, masked) {
    if (!state.hidden || state.hidden[place.row][place.column] === masked) return;
    const next = state.hidden.map((row) => [...row]);
    next[place.row][place.column] = masked;
    const count = next.flat().filter(Boolean).length;
    if (count === 0 || count === next.flat().length) return; // one patch must be masked, and one visible
    state.hidden = next;
    byId("mask").value = "painted";
    showRatio();
    drawGrid();
    update();
  }

  function showRatio() {
    const kind = byId("mask").value, random = kind === "random" || kind === "structured";
    byId("ratio").disabled = !random;
    byId("new-mask").disabled = !random;
    byId("ratio-text").textContent = random ? `${Math.round(100 * byId("ratio").value)} %` : "given by the pattern";
  }

  bindPlot(input, state, { paint, attend, drawGrid });
  const picker = createPicker(byId("reconstruct-picker"), status, (sound) => {
    state.sound = sound;
    loadWindow(0);
  });
  byId("mask").addEventListener("change", () => { showRatio(); update(); });
  byId("ratio").addEventListener("input", () => { showRatio(); update(); });
  byId("new-mask").addEventListener("click", () => { state.seed += 1; update(); });
  byId("start").addEventListener("change", () => loadWindow(Number(byId("start").value)));
  byId("start").addEventListener("input", () => { byId("start-text").textContent = `${Number(byId("start").value).toFixed(2)} s`; });
  bindAttention(status, state, attend);
  bindPlayers(state, asked, status);
  byId("copy").addEventListener("click", () => copy(byId("command").textContent));
  if (status.mask_ratio) byId("ratio").value = status.mask_ratio;
  showRatio();
  return { take: (sound) => picker.pick(sound) };
}

function bindPlot(input, state, { paint, attend, drawGrid }) {
  const plot = byId("input-plot"), mode = () => document.querySelector("[name=click]:checked").value;
  let colour = null;
  const place = (event) => state.window && input.patchAt(event, state.window.patch_size, state.window.grid);
  plot.addEventListener("pointerdown", (event) => {
    const at = place(event);
    if (!at) return;
    state.cursor = at;
    if (mode() === "attention") { attend(at); return; }
    if (!state.hidden) return;
    colour = !state.hidden[at.row][at.column];
    plot.setPointerCapture(event.pointerId);
    paint(at, colour);
  });
  plot.addEventListener("pointermove", (event) => {
    const at = colour !== null && place(event);
    if (at) paint(at, colour);
  });
  for (const end of ["pointerup", "pointercancel"]) plot.addEventListener(end, () => { colour = null; });
  for (const change of ["focus", "blur"]) plot.addEventListener(change, drawGrid);
  plot.addEventListener("keydown", (event) => {
    if (!state.window) return;
    const step = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const { cursor, window: { grid } } = state;
    if (step) {
      cursor.row = Math.max(0, Math.min(grid[0] - 1, cursor.row + step[0]));
      cursor.column = Math.max(0, Math.min(grid[1] - 1, cursor.column + step[1]));
    } else if (event.key === " " && mode() === "paint") {
      if (state.hidden) paint(cursor, !state.hidden[cursor.row][cursor.column]);
    } else if (event.key.toLowerCase() === "a" || event.key === " ") {
      attend({ ...cursor });
    } else return;
    event.preventDefault();
    byId("cursor").textContent = `Patch in row ${cursor.row + 1} of ${grid[0]} from the lowest frequency, column ${cursor.column + 1} of ${grid[1]}: ${state.hidden?.[cursor.row][cursor.column] ? "masked" : "visible"}.`;
    drawGrid();
  });
}

function bindAttention(status, state, attend) {
  const numbers = (count) => Array.from({ length: count }, (_, index) => [index + 1, String(index + 1)]);
  fill(byId("layer"), numbers(status.layers), status.layers);
  fill(byId("head"), [[0, "mean over heads"], ...numbers(status.heads)], 0);
  for (const id of ["layer", "head"]) byId(id).addEventListener("change", () => state.reference && attend(state.reference));
  for (const radio of document.querySelectorAll("[name=click]")) {
    radio.addEventListener("change", () => { byId("attention-controls").hidden = document.querySelector("[name=click]:checked").value !== "attention"; });
  }
}

function bindPlayers(state, asked, status) {
  for (const button of document.querySelectorAll("[data-play]")) {
    const what = button.dataset.play;
    if (what !== "file" && !status.plays) button.hidden = true;
    playButton(button, async () => {
      try {
        if (!state.window) throw new Error("Choose a sound first.");
        const whole = byId("whole").checked, seconds = state.window.hop_seconds * state.window.spec[0].length;
        if (what === "file") return whole ? audioOf(state.sound.id, 0, 30) : audioOf(state.sound.id, state.window.start, seconds);
        return await postForBlob("/api/resynthesis", { ...asked(), what, whole });
      } catch (error) {
        showError(error);
        throw error;
      }
    }, button.textContent);
  }
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    byId("copy").textContent = "Copied";
  } catch (error) {
    getSelection().selectAllChildren(byId("command"));
    byId("copy").textContent = "Selected: press Ctrl+C";
  }
  setTimeout(() => { byId("copy").textContent = "Copy as command"; }, 2000);
}
