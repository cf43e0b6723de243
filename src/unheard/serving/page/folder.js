// Progress of the embedding of FOLDER: views that need it wait here.

import { get } from "./api.js";
import { make } from "./elements.js";

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

// Show the progress in holder until all files are embedded; throws if there is no folder.
export async function whenReady(holder) {
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Files embedded" }), text = make("p", { role: "status" });
  holder.append(text, bar);
  try {
    for (;;) {
      const now = await get("/api/folder");
      if (now.state === "none") throw new Error("This server has no folder of sounds. Start it as: unheard serve MODEL FOLDER.");
      if (now.state === "failed") throw new Error(`The folder cannot be embedded: ${now.error}.`);
      if (now.state === "ready") return now;
      text.textContent = `The model embeds the files: ${now.done} of ${now.total}. The result is cached.`;
      bar.value = now.done / Math.max(1, now.total);
      await pause(0.7);
    }
  } finally {
    text.remove();
    bar.remove();
  }
}

// A line about files that could not be read.
export function skippedNote(state) {
  if (!state.skipped.length) return "";
  const lines = state.skipped.map(([name, reason]) => make("li", {}, `${name}: ${reason}`));
  return make("details", {}, make("summary", {}, `${state.skipped.length} files could not be read`), make("ul", {}, ...lines));
}
