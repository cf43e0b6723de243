"""Row d3: sound files (44.1 kHz, stereo MP3, 10 s) to frame embeddings of ViT small, one core. Baseline: librosa.load,
nnAudio, and the loop over windows of 208 frames of row d2, with attention written out.

Ours is `Model.embed_many`, which `unheard embed` calls, without reader threads. Weights are random. Needs the packages
librosa and nnAudio.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import librosa
import numpy as np
import torch

from benchmarks.frontend import transforms
from benchmarks.made import SECONDS, write_clips
from benchmarks.timing import arguments, interleave, show
from unheard.devices import bf16_on_cpu
from unheard.embedding.embedder import Model
from unheard.embedding.job import Options
from unheard.embedding.loading import load_own
from unheard.embedding.windows import cut
from unheard.model.transformer import use_attention

SIZE, WINDOW, CLIPS = "small", 208, 40


def looped(files: list[Path], model: Model) -> Iterator[np.ndarray]:
    """Frames of each file by the baseline."""
    log_mel = transforms()["nnAudio"]
    for file in files:
        spec = log_mel(librosa.load(file, sr=model.sample_rate, mono=True)[0]).T
        with torch.inference_mode():
            found = [
                model.encode_windows([window], model.grid.real_columns(window.frames))[0]
                for window in cut([spec], WINDOW)
            ]
        yield np.concatenate(found)


def ours(files: list[Path], model: Model) -> Iterator[np.ndarray]:
    """Frames of each file by `unheard`."""
    for _, embedding in model.embed_many(files, Options(frames=True), readers=0):
        yield embedding.frames


def main() -> None:
    """Compare the frames, then the time."""
    given = arguments(__doc__ or "", rounds=5)
    torch.set_num_threads(1)
    model, half, loop = (load_own(f"random-{SIZE}", "cpu", each) for each in ("float32", "bf16", "float32"))
    loop.pad_window = True
    use_attention(loop.learner, "explicit")
    with tempfile.TemporaryDirectory() as name:
        files = write_clips(Path(name), CLIPS)
        full = WINDOW // model.grid.patch_size[1] * (1001 // WINDOW)
        pairs = zip(looped(files, loop), ours(files, model), strict=True)
        found = max(float(np.abs(theirs[:full] - mine[:full]).mean()) for theirs, mine in pairs)
        if found > 0.05:
            raise SystemExit(f"frames differ by {found} in the mean")

        def work(run: Callable[[list[Path], Model], Iterator[np.ndarray]], network: Model) -> Callable[[], int]:
            return lambda: SECONDS * sum(1 for _ in run(files, network))

        works = {"librosa.load + nnAudio + loop, float32": work(looped, loop), "ours, float32": work(ours, model)}
        if bf16_on_cpu():
            works["ours, bf16"] = work(ours, half)
        checked = f"Mean difference of the frames of full windows of a clip: at most {found:.1e}."
        show("d3", interleave(works, given.rounds), "seconds of audio", checked, given.json)


if __name__ == "__main__":
    main()
