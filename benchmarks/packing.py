"""Row c2: MP3 files (44.1 kHz, stereo, 10 s) to stored log-mel, one core. Baseline: librosa.load, nnAudio and np.save,
file by file, as the programs of the MSM-MAE family prepare their data.

Ours is `unheard.data.pack`, with one thread. Decoding is its own row, because it is a bound for both. Page caches are
warm. Needs the packages librosa and nnAudio.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch

from benchmarks.frontend import transforms
from benchmarks.made import write_clips
from benchmarks.timing import arguments, interleave, show
from unheard.audio.frontend import MSM_MAE_16K
from unheard.data.corpus import open_corpus
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.shard_layout import Dtype

CLIPS = 40


def baseline(files: list[Path], out: Path) -> Callable[[], int]:
    """The peer: one .npy a file."""
    log_mel = transforms()["nnAudio"]

    def work() -> int:
        for file in files:
            wav, _ = librosa.load(file, sr=MSM_MAE_16K.sample_rate, mono=True)
            np.save(out / f"{file.stem}.npy", log_mel(wav))
        return len(files)

    return work


def decoding(files: list[Path]) -> Callable[[], int]:
    """Decode without anything else."""
    return lambda: sum(1 for file in files if len(soundfile.read(file, dtype="float32")[0]))


def packed(files: list[Path], out: Path, dtype: Dtype) -> Callable[[], int]:
    """Ours: a corpus of the folder, packed again in each round."""

    def work() -> int:
        shutil.rmtree(out, ignore_errors=True)
        return len(pack(open_corpus(files[0].parent), PackConfig(MSM_MAE_16K, dtype), out, workers=1).frames)

    return work


def difference(files: list[Path], out: Path) -> float:
    """Mean absolute difference of the stored log-mel; resamplers differ near the band limit."""
    store = pack(open_corpus(files[0].parent), PackConfig(MSM_MAE_16K))
    found = []
    for number, file in enumerate(files):
        ours, theirs = np.asarray(store.clip(number), np.float32), np.load(out / f"{file.stem}.npy").T
        frames = min(len(ours), len(theirs))
        found.append(float(np.abs(ours[:frames] - theirs[:frames]).mean()))
    return max(found)


def main() -> None:
    """Compare what is stored, then the time."""
    given = arguments(__doc__ or "", rounds=5)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        audio, out = Path(name) / "audio", Path(name) / "npy"
        audio.mkdir()
        out.mkdir()
        files = write_clips(audio, CLIPS)
        works = {
            "librosa.load + nnAudio + np.save": baseline(files, out),
            "unheard data pack, float16": packed(files, Path(name) / "float16", "float16"),
            "unheard data pack, uint8": packed(files, Path(name) / "uint8", "uint8"),
            "decoding alone": decoding(files),
        }
        works["librosa.load + nnAudio + np.save"]()
        if (found := difference(files, out)) > 0.05:
            raise SystemExit(f"outputs differ by {found} in the mean")
        checked = f"Mean difference of the log-mel of a clip: at most {found:.1e}."
        show("c2", interleave(works, given.rounds), "10 s clips", checked, given.json)


if __name__ == "__main__":
    main()
