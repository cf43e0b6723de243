"""labels.csv of the page: the answers to "does this file have the class?".

One class: columns path and label, with the labels NAME and "not NAME". Several classes: path, label and known, where
known lists the classes that were answered for a file. Both are labels CSVs that `unheard probe` and `unheard finetune`
read. The file is replaced atomically after every answer.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from unheard.addresses import address_of, named
from unheard.embedding.tables import absolute
from unheard.errors import DataError
from unheard.files import write_table
from unheard.outputs import locked_file
from unheard.serving.library import Library

NOT = "not "
"""Begin of the label of clips without the only class."""

Answers = dict[str, dict[str, bool]]
"""By class and id of a file, in the order in which they were given."""


class LabelFile:
    """The answers, in memory and on disk.

    Parameters
    ----------
    path : Path
    library : Library

    Raises
    ------
    DataError
        When the file exists and was not written by this class for this folder.
    """

    def __init__(self, path: Path, library: Library) -> None:
        self.path, self._library = path.absolute(), library
        self.answers: Answers = self._read() if path.exists() else {}

    def set(self, name: str, sound: str, answer: bool) -> None:
        """Store an answer."""
        self.answers.setdefault(name, {}).pop(sound, None)
        self.answers[name][sound] = answer
        self._write()

    def remove(self, name: str, sound: str) -> None:
        """Remove an answer, if there is one."""
        if self.answers.get(name, {}).pop(sound, None) is not None:
            if not self.answers[name]:
                del self.answers[name]
            self._write()

    def label(self, sound: str) -> str:
        """Return the label of a file as in the table; empty if it has none."""
        return self._label(sound, [name for name, given in self.answers.items() if given])

    def _label(self, sound: str, names: list[str]) -> str:
        given = {name: self.answers[name][sound] for name in names if sound in self.answers[name]}
        if len(names) == 1:
            return "".join(name if answer else NOT + name for name, answer in given.items())
        return "|".join(name for name, answer in given.items() if answer)

    def _write(self) -> None:
        names = [name for name, given in self.answers.items() if given]
        sounds = dict.fromkeys(sound for name in names for sound in self.answers[name])
        rows = []
        for sound in sounds:
            file = self._library[sound].path
            path = named(file) if address_of(file) else Path(os.path.relpath(file, self.path.parent)).as_posix()
            row = {"path": path, "label": self._label(sound, names)}
            if len(names) > 1:
                row["known"] = "|".join(name for name in names if sound in self.answers[name])
            rows.append(row)
        with locked_file(self.path):
            write_table(self.path, ("path", "label", "known") if len(names) > 1 else ("path", "label"), rows)

    def _read(self) -> Answers:
        try:
            with self.path.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
                reader = csv.DictReader(lines)
                columns, rows = tuple(reader.fieldnames or ()), list(reader)
        except (OSError, csv.Error) as error:
            raise DataError(f"{self.path} cannot be read ({error}); choose another file with --labels") from error
        if columns not in {("path", "label"), ("path", "label", "known")}:
            raise self._foreign(f"its columns are {', '.join(columns) or 'none'}")
        answers: Answers = {}
        for row in rows:
            file = self._library.of_path(absolute(os.fspath(self.path.parent / row["path"])))
            if file is None:
                raise self._foreign(f"{row['path']} is not in the folder")
            for name, answer in self._answers_of(row).items():
                answers.setdefault(name, {})[file.id] = answer
        if "known" not in columns and len(answers) > 1:
            raise self._foreign(f"it has the labels {', '.join(sorted(answers))}, and no column known")
        return answers

    def _answers_of(self, row: dict[str, str]) -> dict[str, bool]:
        if "known" not in row:
            return {row["label"].removeprefix(NOT): not row["label"].startswith(NOT)}
        positive = row["label"].split("|")
        return {name: name in positive for name in row["known"].split("|") if name}

    def _foreign(self, reason: str) -> DataError:
        return DataError(
            f"{self.path} was not written by this page for this folder ({reason}), and would be replaced; choose"
            " another file with --labels"
        )
