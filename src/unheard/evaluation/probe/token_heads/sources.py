"""Cached tokens of a model, of the models compared with it, and of the random encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from unheard.data.label_table import Labels
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.evaluation.probe.cache import EmbeddingCache, vectors_fingerprint
from unheard.evaluation.probe.token_heads.fit import TokenSource
from unheard.evaluation.probe.token_heads.tokens import Tokens, embed_tokens, most_columns, token_options
from unheard.evaluation.probe.vectors import RANDOM, bands_of, baseline_of, random_encoder
from unheard.progress import Track, silent


class TokenStore:
    """Tokens in a folder; one array at a time is in memory.

    Parameters
    ----------
    folder : Path
        Of the cached vectors of the probe.
    labels : Labels
    content : sequence of str
        Hash of the audio bytes of each row.
    """

    def __init__(self, folder: Path, labels: Labels, content: Sequence[str], track: Track = silent) -> None:
        self.folder, self.labels, self.content, self.track = folder, labels, content, track
        self._makers: dict[str, Callable[[], Tokens]] = {}
        self.load = lru_cache(maxsize=1)(self._load)

    def sources(self, models: Mapping[str, EmbeddingModel], seeds: Sequence[int]) -> dict[str, TokenSource]:
        """Embed the tokens of the models, and of the random encoders of the first one. Return where they are read.

        Raises
        ------
        ConfigError
            When the tokens of the table are too large.
        """
        found: dict[str, TokenSource] = {}
        for index, (name, model) in enumerate(models.items()):
            found[name] = self._add(model, f"tokens-{index}", f"tokens ({name})", lambda model=model: model)  # type: ignore[misc]
        model = next(iter(models.values()))
        random = [
            self._add(
                model,
                f"tokens-random-{seed}",
                f"tokens (random encoder, seed {seed})",
                lambda seed=seed: random_encoder(baseline_of(model), seed),  # type: ignore[misc]
            )
            for seed in seeds
        ]
        found[RANDOM] = lambda run: random[run](run)
        for name in self._makers:  # everything is embedded before the first head is trained
            self.load(name)
        return found

    def notes(self, models: Mapping[str, EmbeddingModel]) -> list[str]:
        """Return a note for each model of which clips may have more time columns than are read."""
        notes = []
        for index, (name, model) in enumerate(models.items()):
            tokens = self.load(f"tokens-{index}")
            bands = bands_of(model)
            most = most_columns(len(tokens), tokens.shape[1] * tokens.shape[3] * bands)
            columns = (~np.isnan(tokens[:, 0, :, 0])).sum(axis=1) // bands
            if full := int((columns == most).sum()):
                notes.append(
                    f"heads on tokens read at most {most} time columns of a clip at equal distances; {full} clips of"
                    f" {name} have as many or more"
                )
        return notes

    def _add(
        self, model: EmbeddingModel, name: str, description: str, build: Callable[[], EmbeddingModel]
    ) -> TokenSource:
        cache = EmbeddingCache(self.folder, vectors_fingerprint(model, self.labels, self.content, token_options(model)))
        self._makers[name] = lambda: cache(name, lambda: embed_tokens(build(), self.labels, description, self.track))
        return lambda run: self.load(name)

    def _load(self, name: str) -> Tokens:
        return np.asarray(self._makers[name]())
