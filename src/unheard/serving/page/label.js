// Label: "does this clip have the class?" by keyboard; every twenty answers a head is fitted, and the clips it separates least come next.

import { get, post } from "./api.js";
import { make } from "./elements.js";
import { whenReady } from "./folder.js";
import { go } from "./navigation.js";
import { attempt } from "./message.js";
import { createPicker } from "./picker.js";
import { audioOf, play } from "./player.js";

export async function start(view, status) {
  view.classList.add("split");
  const controls = make("div", { class: "controls" }, make("h2", {}, "Label a class"));
  const result = make("div", { class: "result" });
  view.append(controls, result);
  await whenReady(result);

  const name = make("input", { type: "text", maxlength: "80", autocomplete: "off", list: "classes" });
  const known = make("datalist", { id: "classes" }), picked = make("p", { class: "quiet" });
  const begin = make("button", { class: "main" }, "Begin"), picking = make("div");
  let examples = [], state = null, asking = false;
  controls.append(make("form", { onsubmit: (event) => { event.preventDefault(); attempt(startClass); } },
    make("label", {}, "Name of the class, such as: dog", name), known,
    make("fieldset", {}, make("legend", {}, "An example of it (optional)"), picking, picked), make("div", { class: "row" }, begin)));
  createPicker(picking, status, (sound) => {
    examples = [{ sound: sound.id }];
    picked.textContent = "Clips that are similar to it come first.";
  });

  const card = make("div", { class: "card", hidden: true }), numbers = make("div", { class: "numbers" }), message = make("p", { role: "status" });
  const clip = make("p", { class: "name", "aria-live": "polite" }), guess = make("p", { class: "quiet" });
  const button = (text, key, act, kind = "") => make("button", { type: "button", class: kind, onclick: () => attempt(act) }, text, " ", make("kbd", {}, key));
  card.append(clip, guess, make("div", { class: "row" }, button("Yes", "Y", () => answer("yes"), "big main"), button("No", "N", () => answer("no"), "big"),
    button("Skip", "S", () => answer("skip")), button("Play again", "P", hear), button("Take back", "U", undo)));
  const save = make("button", { type: "button", onclick: () => attempt(saveHead) }, "Save the classifier"), saved = make("div", { "aria-live": "polite" });
  const help = make("p", {}, "Give the class a name and begin. Then answer with the keys Y, N and S; P plays the clip again, U takes back the latest answer.");
  result.append(help, message, card, numbers, make("div", { class: "row" }, save), saved);
  save.hidden = true;

  async function startClass() {
    if (!name.value.trim()) throw new Error("Give the class a name first.");
    show(await post("/api/labels", { name: name.value.trim(), examples }));
    help.hidden = true;
    save.hidden = false;
    document.activeElement?.blur();
    await hear();
  }

  async function answer(given) {
    if (!state?.next || asking) return;
    asking = true;
    try {
      show(await post("/api/labels/answer", { name: state.name, sound: state.next.id, answer: given }));
    } finally {
      asking = false;
    }
    await hear();
  }

  async function undo() {
    if (!state || asking) return;
    show(await post("/api/labels/undo", { name: state.name }));
    await hear();
  }

  async function hear() {
    if (state?.next) await play(audioOf(state.next.id));
  }

  function show(now) {
    state = now;
    card.hidden = false;
    message.textContent = now.message;
    clip.textContent = now.next ? now.next.name : "Every clip of the folder has an answer.";
    guess.textContent = now.next && now.next.score !== null ? `The head gives ${now.name} a probability of ${Math.round(100 * now.next.score)} %. This clip has the smallest margin.` : "";
    const box = (title, value) => make("div", {}, make("b", {}, String(value)), title);
    const share = (value) => (value === null ? "none" : `${Math.round(100 * value)} %`);
    numbers.replaceChildren(
      box(now.name, now.yes), box(`not ${now.name}`, now.no), box("answers until the next fit", now.until_fit),
      ...(now.head ? [box(now.head.expected === null ? `no clip without an answer reaches the threshold ${now.head.threshold.toFixed(2)}: label more` : `expected precision of the ${now.head.detected} clips without an answer that reach the threshold ${now.head.threshold.toFixed(2)}`, share(now.head.expected)), box(`precision over ${now.head.clips} labelled clips (${now.head.true_positives} of ${now.head.predicted}), cross-validated`, share(now.head.precision)), box("recall over the same clips", share(now.head.recall))] : []),
    );
    loadKnown();
  }

  async function loadKnown() {
    const given = await attempt(() => get("/api/labels"));
    known.replaceChildren(...Object.keys(given || {}).map((each) => make("option", { value: each })));
  }

  async function saveHead() {
    const made = await post("/api/labels/save", {});
    saved.replaceChildren(
      make("p", {}, `Saved as the classifier ${made.folder} with ${made.labels.join(", ")}; labels are in ${state.file}.`),
      make("div", { class: "command" }, make("code", {}, made.command)),
      make("div", { class: "row" }, make("button", { type: "button", onclick: () => go("spans") }, "Detect with it")),
    );
  }

  document.addEventListener("keydown", (event) => {
    if (view.hidden || card.hidden || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const act = { y: () => answer("yes"), n: () => answer("no"), s: () => answer("skip"), p: hear, u: undo }[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    attempt(act);
  });
  loadKnown();
  return {};
}
