"""Whatever the user calls data becomes one packed store."""

from __future__ import annotations

from pathlib import Path

from unheard.audio.frontend import LogMelConfig
from unheard.data.corpus import open_corpus
from unheard.data.pack import pack
from unheard.data.shards import HEADER, SpecStore, check_frontend, open_store
from unheard.progress import Track, silent

MEMORY_HOURS = 35.0  # about 2 GiB of float16 log-mel with 80 bands and 100 frames a second; our choice


def open_data(source: str | Path, frontend: LogMelConfig, cache: Path, track: Track = silent) -> SpecStore:
    """Open a packed corpus, or read a folder, CSV or manifest.

    Sound that is not packed is read once: a small corpus stays in memory, a larger one is packed into ``cache``, where a second
    call finds it.

    Raises
    ------
    DataError
        When nothing can be used, or a packed corpus was made with another front end.
    """
    if (Path(source) / HEADER).is_file():
        store = open_store(source)
        check_frontend(store, frontend)
        return store
    corpus = open_corpus(source, track)
    return pack(corpus, frontend, None if corpus.hours <= MEMORY_HOURS else cache, track=track)
