"""A labelled set of generated sounds for the demo, the documentation and the tests; it needs no download.

Clip ``i`` is of family ``i % 6`` and instrument ``(i // 6) % 10`` and depends on (seed, i) alone: a larger set begins
with the smaller one. Splits and folds assign instruments, not clips, so test instruments are not training instruments.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from unheard.datasets.synthesis import FAMILIES, Sound, Wave
from unheard.errors import ConfigError, DataError
from unheard.files import atomic_write, write_table
from unheard.progress import Track, silent

INSTRUMENTS = 10  # per family: two each in the folds 0-4
TEST_FOLD, VALID_FOLD = 1, 4  # fold 1 is a test fold so that twelve clips already hold every family in train and test
COLUMNS = ("path", "label", "kind", "pitch", "onsets", "split", "fold", "group")


def make_sounds(
    out: Path | str, clips: int = 300, seed: int = 0, sample_rate: int = 16000, track: Track = silent
) -> Path:
    """Write ``clips`` generated sounds and their ``labels.csv``.

    Parameters
    ----------
    out : Path
        Folder to write, created if missing. Existing files are replaced.
    clips : int
        Number of clips; 12 is the smallest number with every family in train and in test.
    seed : int
        Same seed, same bytes.
    sample_rate : int
        Hz, at least 8000.

    Returns
    -------
    Path
        ``out/labels.csv``. Columns: path (relative to it), label (string, bar, drum, chirp, voice, noise), kind (within
        the family: marimba, kick, the vowel ..), pitch (MIDI number, empty if unpitched), onsets (ms, joined by ``|``),
        split (train, valid, test), fold (0-4) and group (the instrument).

    Raises
    ------
    ConfigError
        When ``clips`` < 1 or ``sample_rate`` < 8000.
    DataError
        When the folder cannot be written.

    Examples
    --------
    >>> make_sounds("sounds", clips=60)  # doctest: +SKIP
    PosixPath('sounds/labels.csv')
    """
    if clips < 1 or sample_rate < 8000:
        raise ConfigError(f"generated sounds need clips >= 1 and sample_rate >= 8000, got {clips} and {sample_rate}")
    out = Path(out)
    names = list(FAMILIES)
    rows = []
    try:
        for index in track(range(clips), clips, "sounds"):
            family, instrument = names[index % len(names)], index // len(names) % INSTRUMENTS
            sound = generate(family, instrument, index, seed, sample_rate)
            path = Path(family) / f"{family}-{index:05d}.wav"
            _write_wav(out / path, _mix(sound.wav, np.random.default_rng((seed, index, 1))), sample_rate)
            rows.append(_row(path, family, instrument, sound))
        return write_table(out / "labels.csv", COLUMNS, rows)
    except OSError as error:
        raise DataError(f"cannot write sounds to {out}: {error}; choose a writable folder with free space") from error


def generate(family: str, instrument: int, index: int, seed: int = 0, sample_rate: int = 16000) -> Sound:
    """Generate clip ``index`` of a family on one of its instruments: 0.5 to 4 s long, clean, at the synthesised
    level.
    """
    timbre = np.random.default_rng((seed, list(FAMILIES).index(family), instrument, 2))
    take = np.random.default_rng((seed, index))
    seconds = float(0.5 * 8 ** take.uniform())
    return FAMILIES[family](timbre, take, seconds, sample_rate)


def _mix(wav: Wave, rng: np.random.Generator) -> Wave:
    """Scale the peak to -1 to -20 dB of full scale and add white noise 30 to 60 dB below the peak."""
    peak = 10 ** (-rng.uniform(1, 20) / 20)
    floor = 10 ** (-rng.uniform(30, 60) / 20)
    mixed = wav / (np.abs(wav).max() + 1e-12) + floor * rng.standard_normal(len(wav)) / 3
    return np.asarray(peak * mixed / np.abs(mixed).max())


def _row(path: Path, family: str, instrument: int, sound: Sound) -> dict[str, str]:
    fold = instrument % 5
    return {
        "path": path.as_posix(),
        "label": family,
        "kind": sound.kind,
        "pitch": "" if sound.pitch is None else str(sound.pitch),
        "onsets": "|".join(f"{1000 * onset:.1f}" for onset in sound.onsets),
        "split": {TEST_FOLD: "test", VALID_FOLD: "valid"}.get(fold, "train"),
        "fold": str(fold),
        "group": f"{family}-{instrument}",
    }


def _write_wav(path: Path, wav: Wave, sample_rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(path) as unfinished:
            soundfile.write(unfinished, wav, sample_rate, subtype="PCM_16", format="WAV")
    except soundfile.LibsndfileError as error:
        raise DataError(f"cannot write {path}: {error.error_string}") from error
