"""Generated sounds match their labels."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from unheard.datasets.generate import generate, make_sounds
from unheard.datasets.synthesis import FAMILIES, hertz
from unheard.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    labels = make_sounds(tmp_path_factory.mktemp("sounds"), clips=60)
    with labels.open(newline="") as file:
        return labels.parent, list(csv.DictReader(file))


def test_writes_every_clip_it_lists(made: tuple[Path, list[dict[str, str]]]) -> None:
    folder, rows = made
    assert len(rows) == 60
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.wav")} == {row["path"] for row in rows}
    for row in rows:
        wav, rate = soundfile.read(folder / row["path"])
        assert rate == 16000
        assert 0.5 <= len(wav) / rate <= 4.0
        assert 0.09 < np.abs(wav).max() < 0.9  # -20 to -1 dB


def test_splits_and_folds_hold_every_family_and_share_no_instrument(made: tuple[Path, list[dict[str, str]]]) -> None:
    _, rows = made
    homes = defaultdict(set)
    for row in rows:
        homes[row["group"]].add((row["split"], row["fold"]))
    assert all(len(home) == 1 for home in homes.values())
    for split in ("train", "valid", "test"):
        assert {row["label"] for row in rows if row["split"] == split} == set(FAMILIES)


def test_twelve_clips_hold_every_family_in_train_and_test(tmp_path: Path) -> None:
    with make_sounds(tmp_path, clips=12).open() as file:
        rows = list(csv.DictReader(file))
    for split in ("train", "test"):
        assert {row["label"] for row in rows if row["split"] == split} == set(FAMILIES)


def test_same_seed_same_bytes_and_a_larger_set_begins_with_the_smaller(tmp_path: Path) -> None:
    small, large, other = (
        make_sounds(tmp_path / name, clips=n, seed=s) for name, n, s in (("a", 6, 3), ("b", 12, 3), ("c", 6, 4))
    )
    for path in small.parent.rglob("*.wav"):
        name = path.relative_to(small.parent)
        assert path.read_bytes() == (large.parent / name).read_bytes()
        assert path.read_bytes() != (other.parent / name).read_bytes()
    assert large.read_text().startswith(small.read_text())


@settings(max_examples=25, deadline=None)
@given(
    index=st.integers(0, 5000),
    rate=st.sampled_from([8000, 16000, 22050, 48000]),
    family=st.sampled_from(list(FAMILIES)),
)
def test_any_clip_is_finite_and_its_onsets_lie_inside(index: int, rate: int, family: str) -> None:
    sound = generate(family, index % 10, index, sample_rate=rate)
    seconds = len(sound.wav) / rate
    assert np.isfinite(sound.wav).all()
    assert np.abs(sound.wav).max() > 0
    assert sound.onsets == tuple(sorted(sound.onsets))
    assert sound.onsets[0] >= 0
    assert sound.onsets[-1] < seconds


@pytest.mark.parametrize("family", ["string", "bar", "voice"])
@pytest.mark.parametrize("index", range(5))
def test_the_pitch_label_is_the_fundamental_frequency(family: str, index: int) -> None:
    sound = generate(family, index, index)
    assert sound.pitch is not None
    start = round(sound.onsets[0] * 16000)
    spectrum = np.abs(np.fft.rfft(sound.wav[start:] * np.hanning(len(sound.wav) - start), 1 << 18))
    frequencies = np.fft.rfftfreq(1 << 18, 1 / 16000)
    near = np.abs(np.log2(frequencies[1:] / hertz(sound.pitch))) < 1 / 4
    peak = frequencies[1:][near][spectrum[1:][near].argmax()]
    assert abs(1200 * np.log2(peak / hertz(sound.pitch))) < 30  # cents


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_sounds_before_the_first_onset(family: str) -> None:
    for index in range(10):
        sound = generate(family, index, index)
        start = round(sound.onsets[0] * 16000)
        assert not np.any(sound.wav[:start])
        after = np.abs(sound.wav[start : start + 1600]).max()
        assert after > 0.02 * np.abs(sound.wav).max()


def test_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="clips >= 1"):
        make_sounds(tmp_path, clips=0)
    with pytest.raises(ConfigError, match="sample_rate >= 8000"):
        make_sounds(tmp_path, sample_rate=100)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write sounds"):
        make_sounds(tmp_path / "file" / "below", clips=1)
