"""Rows g1, g3: a folder of sounds to a table of embeddings, on all cores of this machine.

    scripts/bench g1 -- --sounds corpora/L --files 5000
    scripts/bench g3 -- --sounds corpora/L --files 5000

g1: ``unheard embed``, compared with transformers' ASTFeatureExtractor and ASTModel over a DataLoader with one process a
core. The AST has the width and depth of ours, and patches of 16x16 without overlap. It computes 10.24 s of each sound:
shorter ones are padded, longer ones are cut, as its feature extractor does. Ours computes the whole sound. Weights are
random.
g3: ``unheard embed --engine ray`` with two workers, compared with one worker. Each has one thread. Needs ray.

Without ``--sounds``, MP3 files of 10 s are generated. Wall time counts, from the start of the command to the table;
so the machine must be idle. The candidates take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import machine
from unheard.data.corpus import open_corpus

PROGRAM = Path(sys.executable).with_name("unheard")
RATE, BANDS, FRAMES, FRAME = 16000, 128, 1024, 400  # of the AST; FRAME: samples of one frame
CLIPS = 96  # that are generated


class Sounds(torch.utils.data.Dataset[torch.Tensor]):
    """Spectrograms of files by the feature extractor of the AST."""

    def __init__(self, files: list[str]) -> None:
        from transformers import ASTFeatureExtractor

        self.files, self.extractor = files, ASTFeatureExtractor(num_mel_bins=BANDS, max_length=FRAMES)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        import librosa

        wav = librosa.load(self.files[index], sr=RATE, mono=True)[0]
        wav = np.pad(wav, (0, max(0, FRAME - len(wav))))  # the feature extractor raises an error for less than a frame
        found: torch.Tensor = self.extractor(wav, sampling_rate=RATE, return_tensors="pt")["input_values"][0]
        return found


def peer(folder: Path, size: str, out: Path) -> None:
    """Embed a folder by transformers: one process a core reads, and the model uses all cores."""
    from benchmarks.embed import ast_model

    files = sorted(map(str, folder.iterdir()))
    model, cores = ast_model(size, BANDS, FRAMES), len(os.sched_getaffinity(0))
    loader = torch.utils.data.DataLoader(Sounds(files), batch_size=16, num_workers=cores)
    with torch.inference_mode():
        np.save(out, np.concatenate([model(batch).last_hidden_state.mean(1).numpy() for batch in loader]))


def seconds(command: list[str], **environment: str) -> float:
    """Run a command and return its wall time."""
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - begin


def link_sounds(sounds: Path | None, files: int, folder: Path) -> float:
    """Fill a folder with links to sounds that are evenly spaced over a corpus. Return the hours of sound."""
    folder.mkdir()
    if sounds is None:
        from benchmarks.made import write_clips

        write_clips(folder, CLIPS)
        return open_corpus(folder).hours
    clips = {str((sounds / clip.path).resolve()): clip for clip in open_corpus(sounds).clips if clip.end is None}
    names = sorted(clips)
    chosen = [names[at] for at in np.linspace(0, len(names) - 1, min(files, len(names))).astype(int)]
    for number, name in enumerate(chosen):
        (folder / f"{number:06d}{Path(name).suffix}").symlink_to(name)
    return sum(clips[name].seconds for name in chosen) / 3600


def main() -> None:
    """Run the candidates of one row in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=["g1", "g3", "peer"])
    parser.add_argument("--sounds", type=Path, help="a folder of sounds, or a fetched corpus")
    parser.add_argument("--files", type=int, default=5000, help="number of files of --sounds")
    parser.add_argument("--size", default="tiny", help="size of both encoders")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row == "peer":
        peer(given.sounds, given.size, given.out)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        hours = link_sounds(given.sounds, given.files, folder / "sounds")
        files = sum(1 for _ in (folder / "sounds").iterdir())
        found: dict[str, list[float]] = {}
        for number in range(given.rounds):
            for name, run in candidates(given.row, folder / "sounds", given.size, folder / f"round{number}").items():
                found.setdefault(name, []).append(run())
                print(f"{name}: {found[name][-1]:.1f} s", file=sys.stderr, flush=True)
    show(given.row, found, files, hours, given.json)


def candidates(row: str, sounds: Path, size: str, out: Path) -> dict[str, Callable[[], float]]:
    """The commands of a row by their names, the baseline first."""
    out.mkdir()
    ours = [str(PROGRAM), "embed", f"random-{size}", str(sounds), "-o"]
    if row == "g1":
        other = [sys.executable, "-m", "benchmarks.embed_folder", "peer", "--sounds", str(sounds), "--size", size]
        source = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        return {
            "transformers, DataLoader": lambda: seconds([*other, "--out", str(out / "peer.npy")], PYTHONPATH=source),
            "unheard embed": lambda: seconds([*ours, str(out / "ours.parquet")]),
        }
    ray = [*ours[:-1], "--engine", "ray", "--processes"]
    return {
        f"Ray, {count} worker{'s' * (count > 1)}": lambda count=count: seconds(
            [*ray, str(count), "-o", str(out / f"{count}.parquet")], OMP_NUM_THREADS="1"
        )
        for count in (1, 2)
    }


def show(row: str, found: dict[str, list[float]], files: int, hours: float, as_json: bool) -> None:
    """Print wall time and ratios to the baseline, round by round."""
    baseline = next(iter(found.values()))
    rows = []
    for name, times in found.items():
        ratios = [base / own for base, own in zip(baseline, times, strict=True)]
        middle = statistics.median(times)
        rows.append(
            {
                "name": name,
                "wall_s": round(middle, 1),
                "files_per_s": round(files / middle, 1),
                "ratio": round(statistics.median(ratios), 2),
                "lowest": round(min(ratios), 2),
                "highest": round(max(ratios), 2),
            }
        )
    if as_json:
        print(json.dumps({"row": row, "machine": machine(), "files": files, "hours": round(hours, 2), "rows": rows}))
        return
    print(f"**{row}** ({machine()})\n\n{files} files, {hours:.2f} hours of sound\n")
    print("| | wall s | files per second | ratio | lowest to highest |\n|---|---|---|---|---|")
    for each in rows:
        spread = f"{each['lowest']:.2f} to {each['highest']:.2f}"
        print(f"| {each['name']} | {each['wall_s']} | {each['files_per_s']} | {each['ratio']:.2f} | {spread} |")


if __name__ == "__main__":
    main()
