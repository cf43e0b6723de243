// A list of files with buttons: play, and what the view adds.

import { make } from "./elements.js";
import { attempt } from "./message.js";
import { audioOf, play, stop } from "./player.js";

// actions: [[text, label, (file) => ...]]; label tells screen readers what the button does with the file.
export function hitList(files, actions) {
  return make("ol", { class: "hits" }, ...files.map((file) => {
    const item = make("li", {});
    const button = make("button", { type: "button", "aria-label": `Play ${file.name}` }, "Play");
    button.addEventListener("click", () => attempt(() => toggle(item, button, file)));
    item.append(
      button,
      make("span", { class: "name" }, file.name),
      ...(file.score === undefined ? [] : [make("span", { class: "number", title: "cosine similarity" }, file.score.toFixed(2))]),
      make("span", { class: "row" }, ...actions.map(([text, label, act]) => make("button", {
        type: "button", "aria-label": `${label} ${file.name}`, onclick: () => act(file),
      }, text))),
    );
    return item;
  }));
}

async function toggle(item, button, file) {
  if (item.classList.contains("playing")) {
    stop();
    return;
  }
  await play(audioOf(file.id), () => {
    item.classList.remove("playing");
    button.textContent = "Play";
  });
  item.classList.add("playing");
  button.textContent = "Stop";
}
