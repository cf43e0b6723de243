"""Row g2: frames of a live signal in chunks of 0.1 s, one core. Baseline: `Model.embed` of the whole signal.

The stream encodes one window at a time, and the baseline encodes 16. Both have a frame for each patch of unheard-tiny.
The frames are compared first, except those of the last window, which the stream pads.
"""

from __future__ import annotations

import numpy as np

import unheard
from benchmarks.timing import arguments, interleave, show

SECONDS, RATE, CHUNK = 60, 16000, 1600


def main() -> None:
    """Compare the frames, then the time."""
    given = arguments(__doc__ or "", rounds=5)
    model = unheard.load("unheard-tiny", device="cpu")
    assert isinstance(model, unheard.Model)
    rng = np.random.default_rng(0)
    wav = (rng.normal(0, 0.1, SECONDS * RATE) * np.repeat(rng.uniform(0, 1, SECONDS * 4), RATE // 4)).astype(np.float32)

    def stream() -> np.ndarray:
        chunks = np.split(wav, len(wav) // CHUNK)
        return np.concatenate([frames for frames, _ in model.stream(chunks, RATE)])

    def whole() -> np.ndarray:
        return model.embed((wav, RATE)).frames

    live, offline = stream(), whole()
    window = model.config.model.frames // model.grid.patch_size[1]
    full = len(offline) - window
    difference = float(np.abs(live[:full] - offline[:full]).max())
    if len(live) != len(offline) or difference > 1e-4:
        raise SystemExit(f"{len(live)} and {len(offline)} frames differ by {difference}")
    works = {
        "embed, whole signal": lambda: SECONDS * bool(len(whole())),
        "stream": lambda: SECONDS * bool(len(stream())),
    }
    checked = f"Largest difference of a number of the frames: {difference:.1e}."
    show("g2", interleave(works, given.rounds), "seconds of audio", checked, given.json)


if __name__ == "__main__":
    main()
