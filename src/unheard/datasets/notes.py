"""Notes rendered from General MIDI soundfonts: the gm tasks.

Programs 0-111 play eight keys at velocity 100, two seconds held and one of release. The labels are the family
(program // 8) in gm-family and the key in gm-pitch, both trained on FluidR3 and tested on TimGM6mb. gm-pitch-programs
uses FluidR3 only and tests on every fourth program, or on each of four folds of programs in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from unheard.errors import DataError, require
from unheard.files import atomic_write
from unheard.progress import Track, silent

GM_TASKS = ("gm-family", "gm-pitch", "gm-pitch-programs")
FONTS = {"fluid": "fluid-soundfont-gm", "timgm6mb": "timgm6mb-soundfont"}  # short name -> package
PROGRAMS, KEYS, VELOCITY = range(112), range(40, 76, 5), 100
HELD, RELEASE = 2.0, 1.0  # seconds
RENDER_RATE, RATE = (
    48000,
    16000,
)  # Hz; the synthesiser does not filter when it transposes, so it runs well above the stored rate
FAMILIES = (
    *("piano", "chromatic-percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe"),
    *("synth-lead", "synth-pad", "synth-effects", "ethnic"),
)  # General MIDI level 1
INSTRUMENTS = (
    *(
        "grand piano",
        "bright piano",
        "electric grand piano",
        "honky-tonk piano",
        "electric piano",
        "electric piano",
        "harpsichord",
    ),
    *(
        "clavinet",
        "celesta",
        "glockenspiel",
        "music box",
        "vibraphone",
        "marimba",
        "xylophone",
        "tubular bell",
        "dulcimer",
    ),
    *(
        "drawbar organ",
        "percussive organ",
        "rock organ",
        "church organ",
        "reed organ",
        "accordion",
        "harmonica",
        "tango accordion",
    ),
    *(
        "nylon guitar",
        "steel guitar",
        "jazz guitar",
        "clean electric guitar",
        "muted guitar",
        "overdriven guitar",
        "distorted guitar",
    ),
    *(
        "guitar harmonic",
        "acoustic bass",
        "fingered bass guitar",
        "picked bass guitar",
        "fretless bass",
        "slap bass",
        "slap bass",
    ),
    *("synthesiser bass", "synthesiser bass", "violin", "viola", "cello", "double bass", "tremolo string section"),
    *(
        "pizzicato string section",
        "harp",
        "timpani",
        "string ensemble",
        "slow string ensemble",
        "synthesiser string ensemble",
    ),
    *(
        "synthesiser string ensemble",
        "choir singing ah",
        "voice singing ooh",
        "synthesiser voice",
        "orchestra hit",
        "trumpet",
        "trombone",
    ),
    *(
        "tuba",
        "muted trumpet",
        "French horn",
        "brass section",
        "synthesiser brass",
        "synthesiser brass",
        "soprano saxophone",
    ),
    *(
        "alto saxophone",
        "tenor saxophone",
        "baritone saxophone",
        "oboe",
        "English horn",
        "bassoon",
        "clarinet",
        "piccolo",
        "flute",
    ),
    *("recorder", "pan flute", "blown bottle", "shakuhachi", "whistle", "ocarina", "square-wave synthesiser lead"),
    *(
        "sawtooth synthesiser lead",
        "calliope lead",
        "chiff lead",
        "charang lead",
        "voice lead",
        "fifths synthesiser lead",
    ),
    *(
        "bass and lead synthesiser",
        "new age pad",
        "warm pad",
        "polysynth pad",
        "choir pad",
        "bowed pad",
        "metallic pad",
        "halo pad",
    ),
    *(
        "sweep pad",
        "rain effect",
        "soundtrack effect",
        "crystal effect",
        "atmosphere effect",
        "brightness effect",
        "goblin effect",
    ),
    *(
        "echo effect",
        "science fiction effect",
        "sitar",
        "banjo",
        "shamisen",
        "koto",
        "kalimba",
        "bagpipe",
        "fiddle",
        "shanai",
    ),
)  # programs 0-111 of General MIDI level 1


def note_rows(name: str) -> Iterator[tuple[str, ...]]:
    """Yield path, label, split, fold and group of each note of a task."""
    for font in ("fluid",) if name == "gm-pitch-programs" else FONTS:
        for program in PROGRAMS:
            for key in KEYS:
                label = FAMILIES[program // 8] if name == "gm-family" else str(key)
                by_program = name == "gm-pitch-programs"
                tested = program % 4 == 3 if by_program else font == "timgm6mb"
                fold = str(program % 4) if by_program else ""
                yield (
                    f"notes/{font}/{program:03d}-{key}.wav",
                    label,
                    "test" if tested else "train",
                    fold,
                    f"{font}-{program}",
                )


def render_notes(paths: Sequence[str], corpus_root: Path, folder: Path, track: Track = silent) -> None:
    """Render the missing notes of ``folder``, 16 kHz mono.

    Parameters
    ----------
    paths : sequence of str
        Paths of `note_rows`.
    corpus_root : Path
        Folder that holds the fetched soundfonts.

    Raises
    ------
    DataError
        When a soundfont is missing.
    UnheardError
        When tinysoundfont is not installed.
    """
    missing = [path for path in paths if not (folder / path).exists()]
    player = Player(corpus_root)
    for path in track(missing, len(missing), "notes"):
        wav = player.note(path)
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as unfinished:
            soundfile.write(unfinished, wav, RATE, subtype="PCM_16", format="WAV")


class Player:
    """Renders notes of the fetched soundfonts.

    Parameters
    ----------
    corpus_root : Path
        Folder of the soundfonts.
    """

    def __init__(self, corpus_root: Path) -> None:
        self._root = corpus_root
        self._synths: dict[str, tuple[Any, int]] = {}

    def note(self, path: str, rate: int = RATE) -> Float32[np.ndarray, " S"]:
        """Render the note with the `note_rows` path ``path``: three seconds, mono, at most at full scale.

        Raises
        ------
        DataError
            When its soundfont is missing.
        UnheardError
            When tinysoundfont is not installed, or cannot be imported.
        """
        _, font, name = path.split("/")
        if font not in self._synths:
            self._synths[font] = open_synth(FONTS[font], self._root)
        program, key = (int(number) for number in Path(name).stem.split("-"))
        return _note(*self._synths[font], program, key, rate)


def open_synth(package: str, corpus_root: Path) -> tuple[Any, int]:
    """Open the soundfont of a fetched package. Return the synthesiser and the number of the font in it.

    Raises
    ------
    DataError
        When the soundfont is missing.
    UnheardError
        When tinysoundfont is not installed, or cannot be imported.
    """
    # not an extra: its dependency PyAudio does not build everywhere and is not needed here
    require("tinysoundfont", install="pip install --no-deps tinysoundfont")
    import tinysoundfont

    fonts = sorted((corpus_root / package).rglob("*.sf2"))
    if not fonts:
        raise DataError(
            f"{corpus_root} lacks the soundfont {package}; run: unheard data fetch {package} -o {corpus_root}"
        )
    synth = tinysoundfont.Synth(samplerate=RENDER_RATE, gain=-6)
    return synth, synth.sfload(str(fonts[0]))


def _note(synth: Any, font: int, program: int, key: int, rate: int) -> Float32[np.ndarray, " S"]:
    synth.program_select(0, font, 0, program)
    synth.noteon(0, key, VELOCITY)
    held = np.frombuffer(bytes(synth.generate(round(HELD * RENDER_RATE))), np.float32)
    synth.noteoff(0, key)
    release = np.frombuffer(bytes(synth.generate(round(RELEASE * RENDER_RATE))), np.float32)
    synth.sounds_off(0)
    mono = np.concatenate([held, release]).reshape(-1, 2).mean(axis=1)
    wav: np.ndarray = mono if rate == RENDER_RATE else soxr.resample(mono, RENDER_RATE, rate)
    return wav / max(1.0, float(np.abs(wav).max()))
