"""Captions for fetched corpora, from templates filled with file names and folders; no sound file is opened.

Captions name the kind of drum, the instrument and key of a rendered note, the prompt and its language, or the folder of
an effect. Files of the test split of a task get no caption, so that a model trained with captions has not read their
labels.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from unheard.data.manifest import from_table, local_corpus, pretraining_rows, read_manifest
from unheard.datasets.filename_rules import DRUM_NAMES
from unheard.datasets.notes import FONTS, INSTRUMENTS, note_rows, render_notes
from unheard.errors import DataError
from unheard.files import write_table
from unheard.progress import Track, silent

COLUMNS = ("path", "caption", "domain")
LANGUAGES = {
    "ar": "Arabic",
    "be": "Belarusian",
    "bg": "Bulgarian",
    "ca": "Catalan",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "eu": "Basque",
    "fi": "Finnish",
    "fr": "French",
    "gl": "Galician",
    "he": "Hebrew",
    "hu": "Hungarian",
    "it": "Italian",
    "kn": "Kannada",
    "lt": "Lithuanian",
    "ml": "Malayalam",
    "nb": "Norwegian",
    "nds": "Low German",
    "nl": "Dutch",
    "nn": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sk": "Slovak",
    "sl": "Slovenian",
    "sr": "Serbian",
    "sv": "Swedish",
    "tn": "Tswana",
    "uk": "Ukrainian",
    "wa": "Walloon",
    "hi": "Hindi",
    "tr": "Turkish",
}
DRUMS = {"kick": "bass drum", "snare": "snare drum", "hat": "hi-hat", "tom": "tom-tom drum", "cymbal": "cymbal"}
SAMPLE_KINDS = {  # how Sonic Pi's file names begin
    "ambi": "ambient sound",
    "bass": "bass synthesiser",
    "bd": "bass drum",
    "drum": "drum",
    "elec": "electronic sound",
    "glitch": "glitch",
    "guit": "guitar",
    "hat": "hi-hat",
    "loop": "music loop",
    "mehackit": "electronic sound",
    "misc": "sound",
    "perc": "percussion",
    "ride": "ride cymbal",
    "sn": "snare drum",
    "tabla": "tabla drum",
    "tbd": "bass drum",
    "vinyl": "vinyl record",
}
SPEECH_TEMPLATES = (
    *("a {voice} says {words}{language}", "speech{language}, a {voice} saying {words}"),
    *("a {voice} speaking{language}: {words}", "a recording of a {voice} who says {words}{language}"),
)
NO_WORDS = frozenset(
    {"sound", "track", "music", "song", "select", "die", "attack"}
)  # names without information about the sound
PREFIXES = ("vm ", "conf ", "confbridge ", "dir ", "agent ", "spy ", "queue ")  # menus that telephone prompts belong to
SOUND_TEMPLATES = ("the sound of {words}", "a recording of {words}", "{words}")
PLAYED = ("{words}", "instrumental {words}", "a piece of {words}")
NOTE_NAMES = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B")
Row = Mapping[str, str]


def captions(corpus_root: Path | str) -> list[dict[str, str]]:
    """Return path, caption and domain of every training file of a fetched corpus whose name describes the sound.

    Raises
    ------
    DataError
        For a folder without a manifest.
    """
    rows = pretraining_rows(read_manifest(corpus_root))
    found = ((row, caption(row)) for row in rows)
    return [{"path": row["path"], "caption": text, "domain": row["domain"]} for row, text in found if text]


def write_captions(corpus_root: Path | str, out_csv: Path | str, notes: bool = True, track: Track = silent) -> Path:
    """Write the captions of a corpus, with paths relative to the table's own folder.

    Parameters
    ----------
    notes : bool
        Also render the notes of the General MIDI soundfont that no task uses for testing, into the folder of the table,
        if the corpus has the soundfont.

    Raises
    ------
    DataError
        As `captions`; also when the table cannot be written.
    """
    out = Path(out_csv)
    with local_corpus(corpus_root, (FONTS["fluid"],) if notes else ()) as root:
        rows = from_table(captions(root), root, out)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            if notes and (root / FONTS["fluid"]).is_dir():
                paths = [path for path, _, split, _, _ in note_rows("gm-family") if split == "train"]
                render_notes(paths, root, out.parent, track)
                rows += [{"path": path, "caption": note_caption(path), "domain": "music"} for path in paths]
            return write_table(out, COLUMNS, rows)
        except OSError as error:
            raise DataError(f"cannot write the captions to {out}: {error}") from error


def caption(row: Row) -> str:
    """Return the caption of a manifest row; empty if its name does not describe the sound."""
    templates, values = next(_described(row), (("",), {}))
    return _chosen(templates, row["path"]).format(**values)


def note_caption(path: str) -> str:
    """Return the caption of a rendered note, from its path ``notes/FONT/PROGRAM-KEY.wav``."""
    program, key = (int(number) for number in Path(path).stem.split("-"))
    name, octave = NOTE_NAMES[key % 12], key // 12 - 1
    templates = ("{words} playing the note {name} {octave}", "a single note of {words}, {name} {octave}", "{words}")
    return _chosen(templates, path).format(words=_article(INSTRUMENTS[program]), name=name, octave=octave)


def _described(row: Row) -> Iterator[tuple[Sequence[str], dict[str, str]]]:
    """Yield templates and their values, the best first."""
    package, path = row["package"], PurePosixPath(row["path"])
    folders, words = path.parts[1:-1], _words(path.stem)
    if package.startswith("asterisk-moh"):
        yield PLAYED, {"words": "hold music"}
    elif package.startswith("asterisk"):
        yield from _prompt(folders, words)
    elif row["domain"] == "speech":
        yield from _spoken(package, folders, path.stem)
    elif row["domain"] == "music":
        yield PLAYED, {"words": f"music, {words}" if words and words not in NO_WORDS else "music"}
    else:
        yield from _effect(package, folders, path.stem)


def _prompt(folders: Sequence[str], words: str) -> Iterator[tuple[Sequence[str], dict[str, str]]]:
    """Yield captions of telephone prompts.

    The folder under ``generate`` names language and voice, a folder below it the kind of prompt.
    """
    subfolders = folders[folders.index("sounds") + 1 :]
    parts = subfolders[0].split("_")
    voice = {"f": "woman", "m": "man"}.get(parts[2] if len(parts) > 2 else "", "voice")
    kind = next((name for name in ("digits", "letters", "phonetic") if name in subfolders), "")
    words = next((words.removeprefix(menu) for menu in PREFIXES if words.startswith(menu)), words)
    spoken = {"digits": words, "letters": f"the letter {words}", "phonetic": f"the letter {words[:1]}"}.get(
        kind, f'"{words}"'
    )
    yield SPEECH_TEMPLATES, {"voice": voice, "words": spoken, "language": _language(parts[0])}


def _spoken(package: str, folders: Sequence[str], stem: str) -> Iterator[tuple[Sequence[str], dict[str, str]]]:
    """Yield captions of spoken names; the language is a folder, or the end of a file name."""
    tail = re.fullmatch(r"(.+?)_desc_([a-z]{2,3})(?:_\w+)?", stem)
    code = tail[2] if tail else next((part for part in reversed(folders) if part in LANGUAGES), "")
    words = _words(tail[1] if tail else stem)
    prefix = "the letter " if "alpha" in folders else "the syllable " if "syllab" in folders else "the word "
    if "voices" in folders:  # of a game, in a language that no folder names
        yield SPEECH_TEMPLATES, {"voice": "game character", "words": f'"{words}"', "language": ""}
    elif words:
        yield SPEECH_TEMPLATES, {"voice": "voice", "words": prefix + words, "language": _language(code)}


def _effect(package: str, folders: Sequence[str], stem: str) -> Iterator[tuple[Sequence[str], dict[str, str]]]:
    """Yield captions of effects and instruments; the last folder names the kind."""
    words, kind = _words(stem), _words(folders[-1]) if folders else ""
    if "drumkits" in folders or (package == "lmms-common" and "drum" in kind):
        drum = next((label for label, pattern in DRUM_NAMES if re.search(pattern, stem.lower())), "")
        yield SOUND_TEMPLATES, {"words": _article(f"{DRUMS[drum]} hit") if drum in DRUMS else f"percussion, {words}"}
    elif package == "sonic-pi-samples":
        head, _, rest = stem.partition("_")
        yield SOUND_TEMPLATES, {"words": f"{SAMPLE_KINDS.get(head, head)}, {_words(rest)}".removesuffix(", ")}
    elif words and words not in NO_WORDS:
        plain = kind in ("noises", "sounds", "stereo", "samples", "sound icons", "") or kind == words
        yield SOUND_TEMPLATES, {"words": words if plain else f"{words}, {kind}"}


def _language(code: str) -> str:
    return f" in {LANGUAGES[code]}" if code in LANGUAGES else ""


def _words(name: str) -> str:
    """Return a file name as words, without separators, inner capitals and final numbers; empty if only a number is
    left.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    text = re.sub(r"[\s_\-.]+", " ", spaced).strip()
    return re.sub(r"\s*\d+$", "", text).lower() if not text.isdigit() or len(text) > 3 else text


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _chosen(templates: Sequence[str], path: str) -> str:
    """Return one of the templates, selected by a hash of the path."""
    return templates[int(hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest(), 16) % len(templates)]
