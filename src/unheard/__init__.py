"""General-purpose audio representations, learned by predicting the hidden part of a spectrogram.

Names are looked up on first use, so ``import unheard`` loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module

from unheard.version import __version__

# Where each public name lives.
_HOMES: dict[str, str] = {
    "UnheardError": "unheard.errors",
    "ConfigError": "unheard.errors",
    "AudioError": "unheard.errors",
    "DataError": "unheard.errors",
    "CheckpointError": "unheard.errors",
    "load": "unheard.api",
    "pretrain": "unheard.api",
    "resume": "unheard.api",
    "embed": "unheard.api",
    "search": "unheard.api",
    "evaluate": "unheard.api",
    "probe": "unheard.api",
    "finetune": "unheard.api",
    "convert": "unheard.api",
    "export": "unheard.api",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'unheard' has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
