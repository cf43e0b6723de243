// One player for the page: a new sound stops the one before.

const audio = new Audio();
let stopped = null, address = null;

// Play an address or a blob; onEnd is called when it ends or another sound begins.
export async function play(source, onEnd = () => {}) {
  stop();
  address = source instanceof Blob ? URL.createObjectURL(source) : null;
  audio.src = address || source;
  stopped = onEnd;
  try {
    await audio.play();
  } catch (error) {
    if (error.name !== "AbortError") {
      stop();
      throw new Error("The sound cannot be played.");
    }
  }
}

export function stop() {
  audio.pause();
  if (address) URL.revokeObjectURL(address);
  address = null;
  const ended = stopped;
  stopped = null;
  if (ended) ended();
}

audio.addEventListener("ended", stop);

export const audioOf = (sound, start = 0, seconds = null) =>
  `/api/sounds/${sound}/audio?start=${start}${seconds === null ? "" : `&seconds=${seconds}`}`;

// A button that plays a sound and stops it.
export function playButton(button, source, label = "Play") {
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-pressed") === "true") {
      stop();
      return;
    }
    await play(await source(), () => {
      button.setAttribute("aria-pressed", "false");
      button.textContent = label;
    });
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Stop";
  });
  return button;
}
