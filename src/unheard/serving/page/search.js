// Search: files of FOLDER that are similar to examples, to a part of a sound, or to words.

import { get, post } from "./api.js";
import { magma } from "./colours.js";
import { make } from "./elements.js";
import { skippedNote, whenReady } from "./folder.js";
import { hitList } from "./hits.js";
import { go } from "./navigation.js";
import { attempt } from "./message.js";
import { createPicker } from "./picker.js";
import { audioOf, playButton } from "./player.js";
import { Selection } from "./selection.js";
import { Spectrogram, limitsOf } from "./spectrogram.js";

const COUNT = 30;

export async function start(view, status) {
  view.classList.add("split");
  const picking = make("div"), controls = make("div", { class: "controls" }, make("h2", {}, "Search by example"), picking);
  const result = make("div", { class: "result" });
  view.append(controls, result);
  const state = { like: [], unlike: [], part: null };
  const folder = await whenReady(result);

  const examples = make("div"), hits = make("div", { "aria-live": "polite" }, make("p", {}, "Choose a sound: similar files appear here."));
  const plotBox = make("div", { class: "plot" }), chosen = make("div", { hidden: true });
  const plot = new Spectrogram(plotBox, 150), selection = new Selection(plot, plotBox, (part) => {
    state.part = part;
    note.textContent = part ? `The example is the part from ${part[0].toFixed(2)} to ${part[1].toFixed(2)} s.` : "Drag over the spectrogram to search for a part only.";
  }, () => search());
  const note = make("p", { class: "quiet" }, "Drag over the spectrogram to search for a part only.");
  const hearing = playButton(make("button", { type: "button" }, "Play the example"), async () => {
    const [first, last] = state.part || [0, 60];
    return audioOf(state.sound.id, first, Math.max(0.05, Math.min(60, last - first)));
  }, "Play the example");
  const again = make("button", { type: "button", class: "main", onclick: () => search() }, "Search for this part");
  chosen.append(make("h3", {}, "Example"), plotBox, note, make("div", { class: "row" }, hearing, again));
  result.append(chosen, examples, hits, skippedNote(folder));

  async function choose(sound) {
    Object.assign(state, { sound, part: null, like: [], unlike: [] });
    chosen.hidden = false;
    selection.clear();
    await attempt(async () => {
      const found = await get(`/api/sounds/${sound.id}/overview`);
      plot.show(found.spec, { start: found.start, hop: found.hop_seconds, melHz: found.mel_hz }, limitsOf(found.spec), magma);
    });
    await search();
  }

  const example = () => ({ sound: state.sound.id, ...(state.part ? { start: state.part[0], end: state.part[1] } : {}) });

  async function search() {
    if (!state.sound) return;
    const like = [example(), ...state.like.map((file) => ({ sound: file.id }))], unlike = state.unlike.map((file) => ({ sound: file.id }));
    show(await attempt(() => post("/api/neighbours", { like, unlike, k: COUNT })), `Files that are similar to ${state.sound.name}`);
  }

  function show(found, title) {
    if (!found) return;
    const list = hitList(found.hits, [
      ["More like this", "Add as an example:", (file) => { state.like.push(file); update(); }],
      ["Less like this", "Add as a counter-example:", (file) => { state.unlike.push(file); update(); }],
      ["Look inside", "Open in Reconstruction:", (file) => go("reconstruct", file)],
    ]);
    hits.replaceChildren(make("h3", {}, title), make("p", { class: "quiet" }, "The number is the cosine similarity of centred embeddings, from -1 to 1."), list);
  }

  function update() {
    const row = (title, files) => files.map((file, at) => make("button", {
      type: "button", "aria-label": `Remove ${file.name}`, onclick: () => { files.splice(at, 1); update(); },
    }, `${title} ${file.name} ×`));
    examples.replaceChildren(make("div", { class: "row" }, ...row("more like", state.like), ...row("less like", state.unlike)));
    search();
  }

  createPicker(picking, status, choose);
  controls.append(wordsBox(status, (words) => attempt(async () => {
    chosen.hidden = true;
    show(await post("/api/neighbours", { words, k: COUNT }), `Files that match "${words}"`);
  })));
  return { take: choose };
}

function wordsBox(status, search) {
  if (!status.words) return make("p", { class: "quiet" }, "A search by words needs a model that was trained with captions.");
  const field = make("input", { type: "text", maxlength: "200" });
  return make("form", { onsubmit: (event) => { event.preventDefault(); if (field.value.trim()) search(field.value.trim()); } },
    make("label", {}, "Words, such as: rain on a roof", field), make("button", { class: "main" }, "Search by words"));
}
