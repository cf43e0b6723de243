"""The functions of the library, with the names of the commands. Names are looked up on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unheard.api.converting import convert
    from unheard.api.detecting import detect
    from unheard.api.embedding import embed, load, plan_embed, search, verify
    from unheard.api.evaluating import evaluate
    from unheard.api.exporting import export
    from unheard.api.finetuning import finetune, resume_finetune
    from unheard.api.inspecting import attention, compare, doctor, figure, reconstruct, report, runs
    from unheard.api.pretraining import pretrain, resume
    from unheard.api.probing import probe
    from unheard.api.storing import targets

_MODULES = {
    "converting": ("convert",),
    "detecting": ("detect",),
    "embedding": ("embed", "load", "plan_embed", "search", "verify"),
    "evaluating": ("evaluate",),
    "exporting": ("export",),
    "finetuning": ("finetune", "resume_finetune"),
    "inspecting": ("attention", "compare", "doctor", "figure", "reconstruct", "report", "runs"),
    "pretraining": ("pretrain", "resume"),
    "probing": ("probe",),
    "storing": ("targets",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "attention",
    "compare",
    "convert",
    "detect",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "figure",
    "finetune",
    "load",
    "plan_embed",
    "pretrain",
    "probe",
    "reconstruct",
    "report",
    "resume",
    "resume_finetune",
    "runs",
    "search",
    "targets",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'unheard.api' has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(f"unheard.api.{_HOMES[name]}"), name)
    return value
