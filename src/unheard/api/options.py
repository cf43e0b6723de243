"""Options of the verbs: keywords of the functions of `unheard.api`, and flags of the command line.

The texts below are the help of the command line and of the functions. This module loads nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Any, Literal, TypeVar

from unheard.api.detect_options import DetectOptions as DetectOptions
from unheard.api.figure_options import FigureOptions as FigureOptions

Verb = TypeVar("Verb", bound=Callable[..., Any])


def documented(options: type) -> Callable[[Verb], Verb]:
    """Return a decorator that appends the texts of a class of options to the docstring of a function.

    Flags in the texts, such as ``--batch-size``, become keywords.
    """
    _, _, fields = cleandoc(options.__doc__ or "").partition("Parameters\n----------\n")
    texts = re.sub(r"--([a-z][a-z-]*)", lambda flag: flag[1].replace("-", "_"), fields)

    def add(function: Verb) -> Verb:
        function.__doc__ = f"{cleandoc(function.__doc__ or '')}\n\nOptions\n-------\n{texts}"
        return function

    return add


@dataclass(frozen=True)
class EmbedOptions:
    """Options of the embeddings.

    Parameters
    ----------
    frames
        Write one row per time step instead of one row per file.
    layer
        Output of this block, 1 to depth, or negative from the end. Default: the last block, normalised.
    pool
        Pooling of time steps into one vector.
    window
        Write one row per part of this many seconds instead of one row per file, with the columns start and end.
    hop
        Seconds between the starts of windows. Default: the window. With --frames, seconds between time steps, which
        must divide the duration of a patch. Default: one patch.
    segments
        Table with the columns path, start, end in seconds, instead of AUDIO: one row per row of it. Paths are relative
        to it.
    on_error
        skip: list sounds that cannot be read, and continue. raise: stop at the first one; rows until then are kept for
        --resume.
    precision
        Precision of the matrix products of the encoder. bf16 is faster on processors that have it, and
        slower on others: see unheard doctor.
    workers
        Threads that read sounds ahead. Default: one per core, at most 16.
    batch_size
        Windows that are encoded at once. Default: 16 on a CPU, 256 on a GPU.
    """

    frames: bool = False
    layer: int | None = None
    pool: Literal["mean", "mean+std", "max", "none"] = "mean"
    window: float | None = None
    hop: float | None = None
    segments: Path | None = None
    on_error: Literal["skip", "raise"] = "skip"
    precision: Literal["float32", "bf16"] = "float32"
    workers: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class PretrainOptions:
    """Options of a new pre-training run.

    Parameters
    ----------
    recipe
        A name listed by unheard recipes, or a .py file with a recipe() function, which is executed. Default: msm-mae.
    no_code
        Refuse to execute a .py file, also with --resume.
    epochs
        Number of passes over the corpus; short for --set training.epochs=N.
    steps
        Number of optimiser steps; short for --set training.steps=N. Default: chosen from the size of the corpus.
    batch_size
        Crops per step, over all devices; short for --set training.batch_size=N.
    minutes
        Duration of the training; the number of steps is computed from the measured time of a step.
    init
        Model, run or built-in name with the initial weights, such as unheard-tiny. Without --recipe, the run continues
        with the recipe, window and statistics of that model.
    skip_bad_batches
        Number of batches with a non-finite loss whose updates may be skipped; short for --set
        training.skip_bad_batches=N.
    log
        Also send the metrics there: tensorboard, wandb or mlflow. Default: tensorboard, if it is installed.
    """

    recipe: str | None = None
    no_code: bool = False
    epochs: float | None = None
    steps: int | None = None
    batch_size: int | None = None
    minutes: float | None = None
    init: Path | None = None
    skip_bad_batches: int | None = None
    log: Literal["tensorboard", "wandb", "mlflow"] | None = None


@dataclass(frozen=True)
class FinetuneOptions:
    """Options of a new fine-tuning run.

    Parameters
    ----------
    recipe
        A name listed by unheard recipes --finetune.
    epochs
        Number of passes over the training clips; short for --set training.epochs=N.
    steps
        Number of optimiser steps; short for --set training.steps=N.
    batch_size
        Clips per step, over all devices; short for --set training.batch_size=N.
    skip_bad_batches
        Number of batches with a non-finite loss whose updates may be skipped; short for --set
        training.skip_bad_batches=N.
    corpus
        Folder of packed audio shared by several runs on the same files. Default: every run packs its own audio.
    log
        Also send the metrics there: tensorboard, wandb or mlflow. Default: tensorboard, if it is installed.
    """

    recipe: str = "small"
    epochs: float | None = None
    steps: int | None = None
    batch_size: int | None = None
    skip_bad_batches: int | None = None
    corpus: Path | None = None
    log: Literal["tensorboard", "wandb", "mlflow"] | None = None


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of an evaluation.

    Parameters
    ----------
    mode
        heareval: results are comparable with published ones. robust: shuffles each epoch, tolerates NaN losses, trains
        several seeds and is faster. xares: the protocol of X-ARES, on its tasks.
    seeds
        Number of seeds of the modes robust, default 3, and xares, default 1. The mode heareval has one seed.
    exact
        xares: encode without padding, use all crops, choose no epoch on test clips. Scores are then not comparable
        with published ones.
    vocabulary
        xares: the vocab.txt of bert-base-uncased. Without it, Clotho is left out.
    published
        Reproduce the published runtime of MSM-MAE or M2D, to compare with their scores.
    hop
        Seconds between time steps; must divide the duration of a patch. Default: the smallest hop for events, one patch
        for scenes. A larger hop needs less time and disk space.
    pool
        Pooling of time steps into one vector.
    layer
        Output of this block, 1 to depth, or negative from the end. Default: the last block, normalised.
    """

    mode: Literal["heareval", "robust", "xares"] = "heareval"
    seeds: int | None = None
    exact: bool = False
    vocabulary: Path | None = None
    published: Literal["no", "msm-mae", "m2d"] = "no"
    hop: float | None = None
    pool: Literal["mean", "mean+std", "max"] = "mean"
    layer: int | None = None


@dataclass(frozen=True)
class ProbeOptions:
    """Options of a probe.

    Parameters
    ----------
    seeds
        Number of seeds for the random encoders, the fold assignment and the MLP initialisation.
    pool
        Pooling of time steps into one vector.
    layer
        Output of this block, 1 to depth. Default: the last block, normalised.
    layers
        all: also score every layer, and learned layer weights.
    shots
        Also score logistic regression on this number of training clips of each class, as MAEB does with 8.
    draws
        Number of times that these clips are drawn.
    """

    seeds: int = 3
    pool: Literal["mean", "mean+std", "max"] = "mean"
    layer: int | None = None
    layers: Literal["all"] | None = None
    shots: int | None = None
    draws: int = 10


@dataclass(frozen=True)
class ReconstructOptions:
    """Options of the mask.

    Parameters
    ----------
    mask
        random: single patches. vertical, horizontal, chessboard: every other time column, frequency row or patch.
        structured: random rows and columns.
    mask_ratio
        Fraction of masked patches. Default: that of the training.
    start
        Start of the window in seconds.
    seed
        Seed of the mask.
    painted
        A mask of your own instead of --mask: one row of x (masked) and . (visible) for each frequency, the lowest
        first, separated by /. The page of unheard serve gives it.
    wav
        Also write the reconstruction as a sound file.
    """

    mask: Literal["random", "vertical", "horizontal", "chessboard", "structured"] = "random"
    mask_ratio: float | None = None
    start: float = 0.0
    seed: int = 0
    painted: str | None = None
    wav: Path | None = None


@dataclass(frozen=True)
class ExportOptions:
    """Options of an exported model.

    Parameters
    ----------
    to
        Format. Default: onnx if the output ends in .onnx, unheard with --release, otherwise hf, a Hugging Face folder.
    int8
        ONNX: store the weights of the encoder as 8-bit integers, a quarter to a third of the size.
    check
        ONNX: a folder with at least three sounds, on which the file is compared with the model.
    code
        Hugging Face: also write Python code into the folder, so that trust_remote_code=True loads it without unheard.
    release
        A JSON file with the name, licence, teachers and scores of the model. The output is a model folder of unheard
        with float16 weights, a model card, and a sound with its stored embedding.
    """

    to: Literal["onnx", "hf", "unheard"] | None = None
    int8: bool = False
    check: Path | None = None
    code: bool = False
    release: Path | None = None


@dataclass(frozen=True)
class TargetOptions:
    """What is stored of a teacher.

    Parameters
    ----------
    stage
        Feature map of CLAP: before pooling, or four times finer from an earlier stage.
    projected
        Project each position of CLAP's final map into the space of audio and text.
    pca
        Number of channels to keep, by principal components of a sample of the corpus. Default: all channels.
    """

    stage: Literal["final", "middle"] = "final"
    projected: bool = False
    pca: int | None = None


@dataclass(frozen=True)
class ConvertOptions:
    """Options of a converted checkpoint.

    Parameters
    ----------
    name
        Published name with the input size, such as 80x512p16x16. Default: taken from the path.
    classes
        Class names of a fine-tuned file: class_labels_indices.csv of AudioSet, or a text file with one name per line.
    """

    name: str | None = None
    classes: Path | None = None
