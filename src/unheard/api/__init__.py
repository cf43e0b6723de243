"""The functions of the library, with the names of the commands."""

from unheard.api.converting import convert
from unheard.api.embedding import embed, load, search, verify
from unheard.api.evaluating import evaluate
from unheard.api.exporting import export
from unheard.api.finetuning import finetune, resume_finetune
from unheard.api.inspecting import attention, reconstruct, report
from unheard.api.pretraining import pretrain, resume
from unheard.api.probing import probe
from unheard.api.storing import targets

__all__ = [
    "attention",
    "convert",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "load",
    "pretrain",
    "probe",
    "reconstruct",
    "report",
    "resume",
    "resume_finetune",
    "search",
    "targets",
    "verify",
]
