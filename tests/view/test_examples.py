"""The windows a finished run shows are worth looking at."""

from __future__ import annotations

import numpy as np
import pytest

from unheard.audio.frontend import LogMelConfig, Statistics
from unheard.data.shard_layout import Header, Index, Texts
from unheard.data.store import SpecStore
from unheard.view.run import most_active_windows

WIDTH, BANDS, SILENCE = 40, 8, -15.94
GENERATOR = np.random.default_rng(0)


def sounding(frames: int, change: float = 1.0) -> np.ndarray:
    return -3 + change * GENERATOR.standard_normal((frames, BANDS)).clip(-2, 2)


def silence(frames: int) -> np.ndarray:
    return np.full((frames, BANDS), SILENCE)


def store(*clips: np.ndarray) -> SpecStore:
    frames = np.array([len(clip) for clip in clips])
    names = Texts.of([f"{number}.wav" for number in range(len(clips))])
    nothing = np.zeros(len(clips))
    index = Index(
        np.zeros_like(frames),
        np.cumsum(frames) - frames,
        frames,
        names,
        Texts.of([""] * len(clips)),
        nothing,
        frames / 100,
    )
    header = Header(
        LogMelConfig(n_mels=BANDS),
        "float16",
        Statistics((-5.0,), (3.0,)),
        Statistics((-5.0,) * BANDS, (3.0,) * BANDS),
        "x",
    )
    return SpecStore(header, index, [np.concatenate(clips).astype(np.float16)])


def test_half_silent_windows_come_behind_whole_ones() -> None:
    clips = [
        np.concatenate([sounding(20), silence(20)]),
        sounding(40, 0.5),
        np.concatenate([silence(10), sounding(30)]),
        sounding(40, 1.0),
    ]
    assert [clip for clip, _ in most_active_windows(store(*clips), WIDTH, 2)] == [3, 1]
    assert {clip for clip, _ in most_active_windows(store(*clips), WIDTH, 4)} == {0, 1, 2, 3}


def test_the_window_that_sounds_is_found_in_a_long_clip() -> None:
    clip = np.concatenate([silence(60), sounding(60), silence(20)])
    ((number, start),) = most_active_windows(store(clip), WIDTH, 3)
    assert number == 0 and 60 <= start <= 80  # both windows in the sound are equally lively but for rounding


def test_silence_is_shown_only_when_there_is_nothing_else() -> None:
    half = np.concatenate([sounding(20), silence(20)])
    assert [clip for clip, _ in most_active_windows(store(silence(40), half), WIDTH, 2)] == [1, 0]


def test_a_short_pause_is_no_silence() -> None:
    speech = np.concatenate([sounding(30, 1.5), silence(3), sounding(7, 1.5)])
    assert most_active_windows(store(sounding(40, 0.5), speech), WIDTH, 1) == [(1, 0)]


@pytest.mark.parametrize("lengths", [[5], [5, 7, 3], [200, 5]])
def test_short_clips_are_windows_of_their_own(lengths: list[int]) -> None:
    found = most_active_windows(store(*(sounding(length) for length in lengths)), WIDTH, 3)
    assert found and all(start + WIDTH <= lengths[clip] or start == 0 for clip, start in found)
