"""Options of pre-training and fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


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
    watch
        Labels CSV that is scored while the run trains, with a linear head and kNN on the scene vectors. The training
        does not change. The scores are in the rows of metrics.
    watch_every
        Steps between two scores of --watch. Default: as short as 3 % of the training time allows.
    resume_or_start
        Continue the run of the output if there is one, with the same options; else start it. A complete run is left as
        it is. For jobs that a batch system starts again.
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
    watch: Path | None = None
    watch_every: int | None = None
    resume_or_start: bool = False


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
