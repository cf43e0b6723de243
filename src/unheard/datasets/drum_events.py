"""drum-events: drum hits at random times over game music; the task is to detect kind and time of each hit.

Test clips use the kits and tracks of the test splits of drum-hit and soundtrack-id. Validation uses whole kits and
tracks of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from unheard.audio.waveform import Waveform, info, read
from unheard.data.splits import published_validation
from unheard.datasets.filename_labels import offline_rows
from unheard.datasets.write_hear_folder import Event, Item

CLIPS = {"train": 240, "valid": 60, "test": 240}  # our choice; 240 test clips hold about 1200 events
FEWEST, MOST = 3, 8  # hits in a clip
LOUDEST = 6.0  # dB above the music; 0 at least
LONGEST, SHORTEST = 1.0, 0.05  # seconds of a hit
GAP = 0.3  # seconds between hits of one kind, more than the median filter of the events joins
FLOOR = 0.01  # -40 dB of the peak: limit for the start and end of a hit
MUSIC = (
    "wesnoth-1.16-music",
    "ufoai-music",
    "warzone2100-music",
    "nexuiz-music",
    "singularity-music",
    "drascula-music",
)
TRIES = 50  # attempts to place a hit before it is left out
RATE = 16000  # Hz at which hits are measured, so that every sample rate has the same events


@dataclass(frozen=True)
class Hit:
    """Position of a drum hit in its file, in seconds."""

    path: str
    label: str
    start: float
    seconds: float


@dataclass(frozen=True)
class Placed:
    """A hit, its onset in seconds and its level over the music in dB."""

    hit: Hit
    onset: float
    level: float


def drum_items(root: Path, seconds: float, seed: int) -> list[Item]:
    """Return the clips of drum-events.

    Parameters
    ----------
    root : Path
        A fetched corpus with the packages of drum-hit and music.
    seconds : float
        Length of a clip, 4 to 10 in the definition of the task.
    seed : int
        Same seed, same clips.

    Raises
    ------
    DataError
        For a folder without a manifest.
    """
    drums, music = (
        _split_rows(offline_rows("drum-hit", root)),
        _split_rows([row for row in offline_rows("soundtrack-id", root) if row["label"] in MUSIC]),
    )
    items = []
    for side, (split, clips) in enumerate(CLIPS.items()):
        hits: dict[str, list[Hit]] = defaultdict(list)
        for row in drums[split]:
            if hit := _measure(root, row["path"], row["label"]):
                hits[row["label"]].append(hit)
        tracks = [row["path"] for row in music[split]]
        for index in range(clips):
            rng = np.random.default_rng((seed, side, index))
            path = tracks[rng.integers(len(tracks))]
            start = float(rng.uniform(0.0, max(0.0, info(root / path).seconds - seconds)))
            placed = place(hits, seconds, rng)
            events = tuple(Event(each.hit.label, *_times(each)) for each in placed)
            items.append(
                Item(f"{split}-{index:04d}", split, events, partial(_mix, root, path, start, seconds, placed), path)
            )
    return items


def place(hits: Mapping[str, Sequence[Hit]], seconds: float, rng: np.random.Generator) -> list[Placed]:
    """Place hits at random onsets, in order of time; hits of one kind are `GAP` apart and all end within
    ``seconds``.
    """
    placed: list[Placed] = []
    kinds = sorted(hits)
    for _ in range(rng.integers(FEWEST, MOST + 1)):
        kind = kinds[int(rng.integers(len(kinds)))]
        hit, level = hits[kind][int(rng.integers(len(hits[kind])))], float(rng.uniform(0.0, LOUDEST))
        onsets = rng.uniform(0.0, max(0.0, seconds - hit.seconds), TRIES)
        same = [each for each in placed if each.hit.label == kind]
        free = [
            onset
            for onset in onsets
            if all(
                onset > each.onset + each.hit.seconds + GAP or onset + hit.seconds + GAP < each.onset for each in same
            )
        ]
        if free:
            placed.append(Placed(hit, round(float(free[0]), 4), level))
    return sorted(placed, key=lambda each: each.onset)


def _split_rows(rows: Sequence[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Split rows into sides; some groups of train are for validation."""
    train = [row for row in rows if row["split"] == "train"]
    chosen = published_validation([row["label"] for row in train], [row["group"] for row in train])
    sides: dict[str, list[dict[str, str]]] = defaultdict(list, test=[row for row in rows if row["split"] == "test"])
    for row, validates in zip(train, chosen, strict=True):
        sides["valid" if validates else "train"].append(row)
    return sides


def _times(placed: Placed) -> tuple[float, float]:
    """Return onset and end in milliseconds."""
    return round(1000 * placed.onset, 1), round(1000 * (placed.onset + placed.hit.seconds), 1)


def _measure(root: Path, path: str, label: str) -> Hit | None:
    """Return where the sound in a file begins and ends; None for a silent file."""
    wav = np.abs(read(root / path, RATE)[0])
    loud = np.flatnonzero(wav > FLOOR * wav.max())
    if not len(loud):
        return None
    start, end = loud[0] / RATE, (loud[-1] + 1) / RATE
    return Hit(path, label, float(start), float(np.clip(end - start, SHORTEST, LONGEST)))


@lru_cache(maxsize=512)
def _sound(file: Path, start: float, seconds: float, rate: int) -> Waveform:
    """Return a hit of mean power 1 over its first tenth of a second, faded out over its last."""
    wav = read(file, rate, start=start, seconds=seconds)[0].copy()
    fade = min(len(wav), round(0.02 * rate))
    wav[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return wav / np.float32(max(1e-6, _level(wav[: rate // 10])))


def _mix(root: Path, path: str, start: float, seconds: float, placed: Sequence[Placed], rate: int) -> Waveform:
    """Mix hits into music; the peak is at most full scale."""
    out = np.zeros(round(seconds * rate), np.float32)
    music = read(root / path, rate, start=start, seconds=seconds)[0][: len(out)]
    out[: len(music)] = music
    level = max(_level(music), FLOOR)  # without a floor, hits over silence would be inaudible
    for each in placed:
        begin = round(each.onset * rate)
        wav = _sound(root / each.hit.path, each.hit.start, each.hit.seconds, rate)[: len(out) - begin]
        out[begin : begin + len(wav)] += wav * np.float32(level * 10 ** (each.level / 20))
    return out / np.float32(max(1.0, float(np.abs(out).max())))


def _level(wav: Waveform) -> float:
    return float(np.sqrt(np.mean(wav**2)))
