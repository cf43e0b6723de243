// Choose a sound: drop or open a file, record one, or take one of FOLDER.

import { get, upload } from "./api.js";
import { make } from "./elements.js";
import { attempt } from "./message.js";
import { record, uploadable } from "./wave.js";

const SHOWN = 200;

// holder: element to fill; onPick: called with { id, name, seconds? }
export function createPicker(holder, status, onPick) {
  const input = make("input", { type: "file", accept: "audio/*,.flac,.opus,.aiff", hidden: true, "aria-label": "Sound file" });
  const open = make("button", { type: "button", onclick: () => input.click() }, "Open a file");
  const mic = make("button", { type: "button" }, "Record");
  const chosen = make("p", { class: "quiet", "aria-live": "polite" }, "No sound is chosen.");
  const drop = make("div", { class: "drop" }, make("div", { class: "row" }, open, mic, input), make("p", { class: "quiet" }, "or drop a sound here"), chosen);
  holder.append(drop);

  const pick = (sound) => {
    chosen.textContent = `${sound.name}${sound.seconds ? `, ${sound.seconds.toFixed(2)} s` : ""}${sound.note ? ` (${sound.note})` : ""}`;
    onPick(sound);
  };
  const send = (file) => attempt(async () => {
    if (file.size > status.upload_bytes) throw new Error(`${file.name} is larger than ${status.upload_bytes >> 20} MB.`);
    chosen.textContent = `Reading ${file.name}`;
    pick(await upload(file.name, await uploadable(file)));
  });
  input.addEventListener("change", () => input.files[0] && send(input.files[0]).then(() => { input.value = ""; }));
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
  });
  recordWith(mic, send);
  if (status.files) holder.append(folderList(status, pick));
  return { pick };
}

function recordWith(button, send) {
  let end = null;
  button.addEventListener("click", () => attempt(async () => {
    if (end) {
      const finish = end;
      end = null;
      button.textContent = "Record";
      button.setAttribute("aria-pressed", "false");
      await send(await finish());
      return;
    }
    end = await record();
    button.textContent = "Stop recording";
    button.setAttribute("aria-pressed", "true");
  }));
}

function folderList(status, pick) {
  const filter = make("input", { type: "search", placeholder: "part of a name", "aria-label": `Filter the files of ${status.folder}` });
  const list = make("ul", { class: "list", "aria-label": `Files of ${status.folder}` }), more = make("p", { class: "quiet" });
  const load = () => attempt(async () => {
    const page = await get(`/api/files?limit=${SHOWN}&contains=${encodeURIComponent(filter.value)}`);
    list.replaceChildren(...page.files.map((file) => make("li", {}, make("button", {
      type: "button", "aria-pressed": "false",
      onclick: (event) => {
        list.querySelectorAll("[aria-pressed=true]").forEach((other) => other.setAttribute("aria-pressed", "false"));
        event.currentTarget.setAttribute("aria-pressed", "true");
        pick(file);
      },
    }, file.name))));
    more.textContent = page.total > SHOWN ? `${SHOWN} of ${page.total} files; type a part of the name to find others.` : `${page.total} files`;
  });
  let waiting = null;
  filter.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(load, 150);
  });
  load();
  return make("fieldset", {}, make("legend", {}, `Files of ${status.folder}`), filter, list, more);
}
