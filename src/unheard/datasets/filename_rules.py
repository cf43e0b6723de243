"""The tasks over file names: their packages, and the rules that label manifest rows by file name and folder.

See `unheard.datasets.filename_labels` for the tables made of them.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

Row = Mapping[str, str]


@dataclass(frozen=True)
class FilenameLabelRule:
    """The packages of a task and the rule that labels their manifest rows."""

    packages: tuple[str, ...]
    rule: Callable[[Sequence[Row]], Iterator[tuple[str, ...]]]
    """Yields values in the order of `unheard.datasets.filename_labels.COLUMNS`."""
    folds: int = 0
    """Number of folds if the rule assigns none: an alternative to a split with a small test side."""


def _hash(text: str) -> int:
    return int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), 16)


def _parts(row: Row) -> tuple[str, str, str]:
    """Return folder path, last folder and file name without suffix."""
    path = PurePosixPath(row["path"])
    return path.parent.as_posix() + "/", path.parent.name, path.stem


DRUM_TEST_KITS = ("The Black Pearl 1.0", "ForzeeStereo", "ColomboAcousticDrumkit", "HardElectro1")
DRUM_NAMES = (  # the first match counts; bells of circAfrique, splash cymbals and claps belong to no class
    ("", r"cow|agogo|tambourine|clap|fx|empty|splash|trimo|stomach"),
    ("kick", r"kick|bass ?drum|(^|[^a-z])bd|_k_\d"),
    ("snare", r"snare|rim|sidestick|^stick-|(^|[^a-z])sn\d?_|^sd"),
    ("hat", r"hat|[co]hh|hh"),
    ("cymbal", r"crash|ride|cymbal|china|^rd|^cra_|^(paiste)?bell"),
    ("tom", r"tom|^tm\d?_"),
)


def _drum_hit(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        _, kit, name = _parts(row)
        if "drumkits" not in row["path"] or kit == "rumpf_kit_z01_h2":  # that kit consists of loops
            continue
        label = next((label for label, pattern in DRUM_NAMES if re.search(pattern, name.lower())), "")
        if label:
            yield row["path"], label, "test" if kit in DRUM_TEST_KITS else "train", "", kit


ANIMALS = (
    "adjutant aesculapian_snake albatross bear bird blister_beetle booby calf cat chimpanzee chinchilla cow crane crow"
    " deer dog dolphin duck eagle-owl elephant emu ferret fish flamingo foal frog giant_panda giraffe goose grasshopper"
    " guinea_fowl hamster hedgehog heron horse hyena iguana iora jaguar jerboa koala ladybug lion little_monkey lynx"
    " moose moth mouse newt otter owl pelican pheasant pig porcupine python quail quetzal raccoon rhinoceros rooster"
    " sheep snail sparrow spider squirrel stork tiger turtle vulture wallaby weevil whale wolf wood_grouse yak zebra "
)
INSTRUMENTS = (
    "accordion aeoline bagpipes bass_drum cello changu clarinet cuica cymbals drums dulzaina electric_guitar erhu flute"
    " gamba grand_piano guitar hand_organ hang harmonica harp horn iotshin ipu jug kazoo keyboard lute maracas"
    " natural_horn ney oboe oedephon organ piano pipe quena rabel ratchet recorder rozhok saxophone slit_drum spoons"
    " squeezebox timpani topshuur trumpet ukulele violin washint western_concert_flute xun xylophone yangqin yobel"
    " youhikko yueqin zhaleyka zither zurna "
)
SCRATCH_KINDS = {
    "Animal": "animal",
    "Instruments": "instrument",
    "Percussion": "instrument",
    "Effects": "object",
    "Electronic": "object",
}


def _sound_kind(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    animals, instruments = frozenset(ANIMALS.split()), frozenset(INSTRUMENTS.split())
    for row in rows:
        folder, last, name = _parts(row)
        split, label = "test", ""
        if folder.endswith("/abcs/all/noises/"):
            split, label = "train", "animal" if name in animals else "instrument" if name in instruments else "object"
        elif row["package"] == "scratch":
            label = SCRATCH_KINDS.get(last, "")
        elif (
            row["package"] == "tuxpaint-stamps-default"
            and "/symbols/" not in folder
            and not re.search(r"_desc|_[a-z]{2}(_\w+)?$", name)
        ):
            label = "animal" if "/animals/" in folder else "instrument" if "/music/" in folder else "object"
        if label:
            yield row["path"], label, split, "", row["package"]


SME_LIMITS = {"train": 195, "test": 87}  # clips of one class, the first by hash


def _speech_music_effect(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    found = defaultdict(list)
    kinds = {"speech": "speech", "music": "music", "effects": "effect"}
    for row in rows:
        folder, _, _ = _parts(row)
        package, label = row["package"], kinds[row["domain"]]
        train = package.startswith(("wesnoth", "ufoai")) or (package.startswith("tuxpaint") and label == "speech")
        test = (package == "hedgewars-data" and (label == "speech" or folder.endswith("/Data/Sounds/"))) or (
            package in ("naev-data", "singularity-music", "drascula-music") and label == "music"
        )
        if train or test:
            found["train" if train else "test", label].append(
                (row["path"], label, "train" if train else "test", "", package)
            )
    for (split, _), values in found.items():
        yield from sorted(values, key=lambda value: _hash(value[0]))[: SME_LIMITS[split]]


def _unit_action(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    labels = {"ack": "voice", "select": "voice", "attack": "attack", "die": "die"}
    for row in rows:
        match = re.fullmatch(r"(.+)_(ack|select|attack|die)\d*[a-z]?", _parts(row)[2])
        if match:
            unit, action = match.groups()
            yield row["path"], labels[action], "", str(_hash(unit) % 5), unit


def _voices(rows: Sequence[Row]) -> Iterator[tuple[Row, str, str]]:
    """Yield rows of the 15 hedgewars voices with voice and phrase."""
    for row in rows:
        folder, voice, name = _parts(row)
        if "/Sounds/voices/" in folder:
            yield row, voice, name.rstrip("0123456789")


def _voice_id(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for row, voice, phrase in _voices(rows):
        yield row["path"], voice, "train" if _hash(phrase) % 10 < 7 else "test", "", phrase


VOCAL_TEST_VOICES = ("Pirate", "Default_es", "Singer", "Russian", "HillBilly")


def _vocal_type(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for row, voice, phrase in _voices(rows):
        label = "pain" if phrase in ("Ow", "Ouch", "Ooff") else "effort" if phrase == "Jump" else "speech"
        yield row["path"], label, "test" if voice in VOCAL_TEST_VOICES else "train", "", voice


SOUNDTRACKS = (
    *(
        "wesnoth-1.16-music",
        "ufoai-music",
        "warzone2100-music",
        "nexuiz-music",
        "singularity-music",
        "planetblupi-music-ogg",
    ),
    *("drascula-music", "pushover-data", "colobot-common-sounds", "naev-data", "supertux-data", "widelands-data"),
)
LONG_TRACK = 40.0  # seconds: shorter pieces are jingles


def _soundtrack_id(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for package in SOUNDTRACKS:
        tracks = [
            row
            for row in rows
            if row["package"] == package and row["domain"] == "music" and float(row["seconds"]) > LONG_TRACK
        ]
        tracks.sort(key=lambda row: _hash(row["path"]))
        for index, row in enumerate(tracks):
            yield row["path"], package, "test" if index < max(2, round(0.3 * len(tracks))) else "train", "", row["path"]


STAMP_LANGUAGES = ("be", "bg", "ca", "da", "el", "es", "fr", "ro", "ru")  # those with more than 300 stamps
STAMP_LIMIT = 170  # clips of one language, the first by hash


def _stamp_voice(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    found = defaultdict(list)
    for row in rows:
        match = re.fullmatch(r"(.+)_desc_([a-z]{2})\.ogg", row["path"])
        if match and match[2] in STAMP_LANGUAGES:
            stamp = PurePosixPath(match[1]).name
            found[match[2]].append((row["path"], match[2], "train" if _hash(stamp) % 10 < 7 else "test", "", stamp))
    for values in found.values():
        yield from sorted(values, key=lambda value: _hash(value[0]))[:STAMP_LIMIT]


_SME_PACKAGES = (
    *("tuxpaint-stamps-default", "wesnoth-1.16-music", "wesnoth-1.16-data", "ufoai-music", "ufoai-sound"),
    *("hedgewars-data", "naev-data", "singularity-music", "drascula-music"),
)
TASKS: dict[str, FilenameLabelRule] = {
    "drum-hit": FilenameLabelRule(("hydrogen-drumkits", "hydrogen-data"), _drum_hit, folds=5),
    "sound-kind": FilenameLabelRule(("qabcs-data", "tuxpaint-stamps-default", "scratch"), _sound_kind),
    "speech-music-effect": FilenameLabelRule(_SME_PACKAGES, _speech_music_effect),
    "unit-action": FilenameLabelRule(("megaglest-data",), _unit_action),
    "voice-id": FilenameLabelRule(("hedgewars-data",), _voice_id, folds=5),
    "vocal-type": FilenameLabelRule(("hedgewars-data",), _vocal_type, folds=5),
    "soundtrack-id": FilenameLabelRule(SOUNDTRACKS, _soundtrack_id),
    "stamp-voice": FilenameLabelRule(("tuxpaint-stamps-default",), _stamp_voice),
}
