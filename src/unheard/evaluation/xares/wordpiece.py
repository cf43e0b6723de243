"""Tokens of BERT's uncased WordPiece vocabulary."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from unheard.errors import ConfigError

SPECIAL = ("[UNK]", "[CLS]", "[SEP]")
LONGEST = 100  # letters of a word; longer ones are unknown, as in BERT


class WordPiece:
    """A greedy longest-match tokenizer.

    Parameters
    ----------
    file : Path
        One token a line; the id is the number of the line, from 0. Continuations begin with ``##``.

    Raises
    ------
    ConfigError
        When the file cannot be read or lacks a special token.
    """

    def __init__(self, file: Path) -> None:
        try:
            tokens = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the vocabulary {file} cannot be read ({error}); give the vocab.txt of BERT") from error
        self._ids = {token.rstrip("\n"): number for number, token in enumerate(tokens)}
        if missing := [token for token in SPECIAL if token not in self._ids]:
            raise ConfigError(f"{file} has no token {missing[0]}; give the vocab.txt of bert-base-uncased")
        self.size = len(tokens)

    def __call__(self, text: str) -> list[int]:
        """Return the ids of a text, between [CLS] and [SEP]."""
        unknown, start, end = (self._ids[token] for token in SPECIAL)
        return [start, *(number for word in _words(text) for number in self._pieces(word, unknown)), end]

    def _pieces(self, word: str, unknown: int) -> list[int]:
        found, at = list[int](), 0
        while at < len(word) <= LONGEST:
            mark = "##" if at else ""
            end = next((end for end in range(len(word), at, -1) if mark + word[at:end] in self._ids), None)
            if end is None:
                return [unknown]
            found.append(self._ids[mark + word[at:end]])
            at = end
        return found or [unknown]


def _words(text: str) -> Iterator[str]:
    """Yield words in lower case without accents; each punctuation mark is a word."""
    letters = unicodedata.normalize("NFD", text.lower())
    plain = "".join(letter for letter in letters if unicodedata.category(letter) != "Mn")
    spaced = "".join(f" {letter} " if _is_punctuation(letter) else letter for letter in plain)
    yield from spaced.split()


def _is_punctuation(letter: str) -> bool:
    """Return whether a letter is no letter, digit or space in ASCII, or punctuation in Unicode."""
    ascii_mark = letter.isascii() and letter.isprintable() and not letter.isalnum() and letter != " "
    return ascii_mark or unicodedata.category(letter).startswith("P")
