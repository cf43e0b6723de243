"""gm-multilabel: notes of one to four instrument families at once; the task is to classify the families.

Training uses the notes of Fluid without one program of each family, which is for validation. Test uses the notes of
TimGM6mb.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from unheard.audio.waveform import Waveform
from unheard.datasets.notes import FAMILIES, KEYS, Player
from unheard.datasets.write_hear_folder import Item

CLIPS = {"train": 1200, "valid": 300, "test": 1200}  # our choice; 1200 give an interval of one or two points
MOST = 4  # families at once
SOFTEST, LATEST = -6.0, 0.5  # dB and seconds: the range of levels and onsets of the notes of a clip, our choice
Played = tuple[str, float, float]
"""Name of a note, its level in dB and its onset in seconds."""


def mixture_items(root: Path, seconds: float, seed: int) -> list[Item]:
    """Return the clips of gm-multilabel.

    Parameters
    ----------
    root : Path
        Folder that holds the fetched soundfonts.
    seconds : float
        Length of a clip; notes last three.
    seed : int
        Same seed, same clips.
    """
    player, items = Player(root), []
    for side, (split, clips) in enumerate(CLIPS.items()):
        for index in range(clips):
            rng = np.random.default_rng((seed, side, index))
            families = np.sort(rng.permutation(len(FAMILIES))[: rng.integers(1, MOST + 1)])
            played = [_play(split, int(family), rng) for family in families]
            labels = tuple(FAMILIES[family] for family in families)
            items.append(
                Item(f"{split}-{index:05d}", split, labels, partial(_mix, player, played, seconds), played[0][0])
            )
    return items


def _play(split: str, family: int, rng: np.random.Generator) -> Played:
    """Select a random note of a family, from the programs of the split."""
    programs = [8 * family + place for place in range(8) if split == "test" or (place == 3) == (split == "valid")]
    font = "timgm6mb" if split == "test" else "fluid"
    note = f"notes/{font}/{rng.choice(programs):03d}-{rng.choice(list(KEYS))}.wav"
    return note, float(rng.uniform(SOFTEST, 0.0)), float(rng.uniform(0.0, LATEST))


def _mix(player: Player, played: Sequence[Played], seconds: float, rate: int) -> Waveform:
    """Mix the notes at equal loudness plus their levels; the peak is at most full scale."""
    out = np.zeros(round(seconds * rate), np.float32)
    for note, level, onset in played:
        begin = round(onset * rate)
        wav = player.note(note, rate)[: len(out) - begin]
        power = float(np.sqrt(np.mean(wav**2))) if len(wav) else 0.0
        out[begin : begin + len(wav)] += wav * np.float32(0.1 * 10 ** (level / 20) / max(power, 1e-6))
    return out / np.float32(max(1.0, float(np.abs(out).max(initial=0.0))))
