// Spans: detections of a classifier over a recording, with a threshold and export.

import { get, post, request } from "./api.js";
import { groupColour, magma } from "./colours.js";
import { make, fill } from "./elements.js";
import { attempt } from "./message.js";
import { createPicker } from "./picker.js";
import { audioOf, play } from "./player.js";
import { Spectrogram, limitsOf } from "./spectrogram.js";

export async function start(view, status) {
  view.classList.add("split");
  const picking = make("div"), chooser = make("select"), threshold = make("input", { type: "range", min: "0.02", max: "0.98", step: "0.02", value: "0.5" });
  const shown = make("output", {}, "0.50"), shortest = make("input", { type: "range", min: "0", max: "3", step: "0.1", value: "0" }), shortestText = make("output", {}, "0.0 s");
  const own = make("input", { type: "checkbox" }), ownText = make("span"), ownLabel = make("label", { class: "choice", hidden: true }, own, ownText);
  view.append(make("div", { class: "controls" }, make("h2", {}, "Detections with times"), picking, make("fieldset", {}, make("legend", {}, "Detection"),
    make("label", {}, "Classifier", chooser), ownLabel, make("label", {}, "Threshold ", shown, threshold), make("label", {}, "Shortest detection ", shortestText, shortest))));
  const plotBox = make("div", { class: "plot", role: "img", "aria-label": "Spectrogram of the recording with detections" }), curveBox = make("canvas", { class: "curve", role: "img", "aria-label": "Scores over time" });
  const text = make("p", { class: "sentence", "aria-live": "polite" }, "Choose a recording."), table = make("div", { class: "scroll" }), exports = make("div", { class: "row", hidden: true, role: "group", "aria-label": "Export" }), command = make("code");
  view.append(make("div", { class: "result" }, text, make("figure", {}, plotBox, curveBox), exports, make("div", { class: "command" }, command), table));
  plotBox.style.touchAction = "auto";
  const plot = new Spectrogram(plotBox, 180), state = { sound: null, found: null, classifiers: [] };
  for (const [kind, title] of [["csv", "CSV"], ["raven", "Raven selection table"], ["audacity", "Audacity labels"]]) {
    exports.append(make("button", { type: "button", onclick: () => attempt(() => download(kind)) }, `Export: ${title}`));
  }

  async function loadClassifiers() {
    const found = await attempt(() => get("/api/classifiers"));
    if (!found) return;
    state.classifiers = found;
    fill(chooser, found.map((each) => [each.id, `${each.name}: ${each.labels.join(", ").slice(0, 60)}`]));
    if (!found.length) text.textContent = "There is no classifier yet. Save one in the view Label, or serve a fine-tuned model.";
    chosen();
  }

  // a classifier with stored thresholds uses them until the box is cleared
  function chosen() {
    const stored = state.classifiers.find((each) => each.id === chooser.value)?.thresholds || [];
    ownLabel.hidden = !stored.length;
    ownText.textContent = `The classifier's own threshold (${stored.map((each) => (each ?? 0.5).toFixed(2)).join(", ")})`;
    own.checked = stored.length > 0;
    detectNow();
  }

  function detectNow() {
    threshold.disabled = own.checked;
    detect();
  }

  const asked = () => ({ sound: state.sound.id, classifier: chooser.value, threshold: own.checked ? "auto" : Number(threshold.value), min_duration: Number(shortest.value) });
  let running = false, again = false;

  async function detect() {
    if (!state.sound || !chooser.value) return;
    if (running) { again = true; return; }
    running = true;
    const found = await attempt(() => post("/api/spans", asked()));
    running = false;
    if (again) { again = false; detect(); return; }
    if (found) show(found);
  }

  function show(found) {
    state.found = found;
    const count = found.spans.length, total = found.spans.reduce((sum, span) => sum + span.end - span.start, 0);
    text.textContent = count ? `${count} ${count === 1 ? "detection" : "detections"}, ${total.toFixed(1)} s of ${found.seconds.toFixed(1)} s.` : `No detection at this threshold; the highest score is ${Math.max(...found.scores.flat()).toFixed(2)}.`;
    if (found.total > found.seconds + 1) text.textContent += ` Only the first ${Math.round(found.seconds / 60)} of ${Math.round(found.total / 60)} minutes are scored here, also for the export. The command scores the whole recording.`;
    const colours = new Map(found.labels.map((label, at) => [label, groupColour(at)]));
    plot.overlay = (context, box) => found.spans.forEach((span) => {
      const x0 = plot.xOf(span.start), x1 = Math.max(x0 + 2, plot.xOf(span.end));
      context.strokeStyle = context.fillStyle = colours.get(span.label);
      context.lineWidth = 2.5;
      context.strokeRect(x0, box.top + 1, x1 - x0, box.height - 2);
      context.fillRect(x0, box.top, x1 - x0, 5);
    });
    drawCurve(curveBox, plot, found, colours);
    exports.hidden = false;
    command.textContent = found.command;
    table.replaceChildren(spanTable(found.spans, state.sound));
  }

  async function download(kind) {
    const response = await request("/api/spans/export", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...asked(), format: kind }) });
    const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition"))[1], address = URL.createObjectURL(await response.blob());
    make("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  createPicker(picking, status, (sound) => attempt(async () => {
    state.sound = sound;
    const found = await get(`/api/sounds/${sound.id}/overview`);
    plot.over = null;
    plot.show(found.spec, { start: found.start, hop: found.hop_seconds, melHz: found.mel_hz }, limitsOf(found.spec), magma);
    if (chooser.value) text.textContent = "The windows are scored.";
    await detect();
  }));
  plotBox.addEventListener("click", (event) => {
    if (plot.data) attempt(() => play(audioOf(state.sound.id, plot.timeAt(event).toFixed(3), 5)));
  });
  new ResizeObserver(() => state.found && show(state.found)).observe(plotBox);
  threshold.addEventListener("input", () => { shown.textContent = Number(threshold.value).toFixed(2); detect(); });
  shortest.addEventListener("input", () => { shortestText.textContent = `${Number(shortest.value).toFixed(1)} s`; detect(); });
  chooser.addEventListener("change", chosen);
  own.addEventListener("change", detectNow);
  await loadClassifiers();
  return { shown: loadClassifiers };
}

function drawCurve(canvas, plot, found, colours) {
  const height = 90, ratio = window.devicePixelRatio || 1, { left, width } = plot.box, inner = height - 16;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round((left + width + 6) * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d"), y = (score) => 8 + inner * (1 - score);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = context.strokeStyle = getComputedStyle(document.body).color;
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const tick of [0, 0.5, 1]) context.fillText(String(tick), left - 6, y(tick));
  context.setLineDash([5, 4]);
  for (const threshold of new Set(found.thresholds)) {
    context.beginPath();
    context.moveTo(left, y(threshold));
    context.lineTo(left + width, y(threshold));
    context.stroke();
  }
  context.setLineDash([]);
  found.labels.forEach((label, at) => {
    context.strokeStyle = colours.get(label);
    context.lineWidth = 2;
    context.beginPath();
    found.times.forEach((time, index) => context.lineTo(plot.xOf(time), y(found.scores[index][at])));
    context.stroke();
    if (found.times.length === 1) context.strokeRect(plot.xOf(found.times[0]) - 2, y(found.scores[0][at]) - 2, 4, 4);
  });
}

function spanTable(spans, sound) {
  if (!spans.length) return "";
  const row = (span) => make("tr", {},
    make("td", {}, make("button", { type: "button", "aria-label": `Play ${span.label} from ${span.start} s`, onclick: () => attempt(() => play(audioOf(sound.id, span.start, Math.min(60, Math.max(0.05, span.end - span.start))))) }, "Play")),
    ...[span.start.toFixed(2), span.end.toFixed(2), span.label, span.score.toFixed(2)].map((cell) => make("td", {}, cell)));
  return make("table", {}, make("caption", { class: "quiet" }, spans.length > 200 ? `The first 200 of ${spans.length} detections` : "Detections"), make("thead", {}, make("tr", {}, ...["", "start (s)", "end (s)", "class", "score"].map((title) => make("th", { scope: "col" }, title)))), make("tbody", {}, ...spans.slice(0, 200).map(row)));
}
