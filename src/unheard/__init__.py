"""General-purpose audio representations, learned by predicting the hidden part of a spectrogram.

    load         open a model: unheard-tiny, a run, a model folder, hf:DIR or hear:MODULE
    embed        embed files and folders into a table, one row for each file or part
    plan_embed   measure what embed will need on a sample of the sounds
    search       find the rows of a table that are most similar to an example
    probe        train probes on frozen embeddings of a labels CSV
    evaluate     score models on HEAR task folders
    pretrain     pre-train a model on a folder of audio; resume continues it
    finetune     fine-tune a model on a labels CSV; resume_finetune continues it
    detect       find the classes of a fine-tuned model in recordings, with times
    reconstruct  plot what a model predicts for masked patches
    attention    plot where the last layer of a model attends
    figure       plot masks, mask ratios, attention, durations or patch sizes of several models and sounds
    report       write the page of a run or probe
    runs         list the runs below a folder
    compare      write a page that compares two runs
    doctor       check an encoder of any kind
    targets      store what a frozen teacher gives for a corpus
    convert      convert a published checkpoint into a model folder
    export       write a model as an ONNX file or a Hugging Face folder
    verify       compare files with their checksums

``help(unheard.embed)`` describes the parameters of a function. ``load`` returns a `Model`: ``model.embed``,
``model.predict``, ``model.save_pretrained``. Every error is an `UnheardError`.
Names are looked up on first use, so ``import unheard`` loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from unheard.version import __version__

if TYPE_CHECKING:
    from unheard.api.converting import convert as convert
    from unheard.api.detecting import detect as detect
    from unheard.api.embedding import embed as embed
    from unheard.api.embedding import load as load
    from unheard.api.embedding import plan_embed as plan_embed
    from unheard.api.embedding import search as search
    from unheard.api.embedding import verify as verify
    from unheard.api.evaluating import evaluate as evaluate
    from unheard.api.exporting import export as export
    from unheard.api.finetuning import finetune as finetune
    from unheard.api.finetuning import resume_finetune as resume_finetune
    from unheard.api.inspecting import attention as attention
    from unheard.api.inspecting import compare as compare
    from unheard.api.inspecting import doctor as doctor
    from unheard.api.inspecting import figure as figure
    from unheard.api.inspecting import reconstruct as reconstruct
    from unheard.api.inspecting import report as report
    from unheard.api.inspecting import runs as runs
    from unheard.api.pretraining import pretrain as pretrain
    from unheard.api.pretraining import resume as resume
    from unheard.api.probing import probe as probe
    from unheard.api.storing import targets as targets
    from unheard.embedding.embedder import Model as Model
    from unheard.embedding.job import Embedding as Embedding
    from unheard.errors import AudioError as AudioError
    from unheard.errors import CheckpointError as CheckpointError
    from unheard.errors import ConfigError as ConfigError
    from unheard.errors import DataError as DataError
    from unheard.errors import UnheardError as UnheardError
    from unheard.finetuning.scores import FinetunedRun as FinetunedRun
    from unheard.training.callbacks import Run as Run

# Where each public name lives.
_HOMES: dict[str, str] = {
    "UnheardError": "unheard.errors",
    "ConfigError": "unheard.errors",
    "AudioError": "unheard.errors",
    "DataError": "unheard.errors",
    "CheckpointError": "unheard.errors",
    "Model": "unheard.embedding.embedder",
    "Embedding": "unheard.embedding.job",
    "Run": "unheard.training.callbacks",
    "FinetunedRun": "unheard.finetuning.scores",
    **dict.fromkeys(
        (
            *("load", "embed", "plan_embed", "search", "verify", "probe", "evaluate", "pretrain", "resume", "finetune"),
            *("resume_finetune", "detect", "reconstruct", "attention", "report", "runs", "compare", "figure"),
            *("doctor", "targets", "convert", "export"),
        ),
        "unheard.api",
    ),
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'unheard' has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
