"""Options of the verbs: keywords of the functions of `unheard.api`, and flags of the command line.

The texts below are the help of the command line. This module loads nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


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
    """

    seeds: int = 3
    pool: Literal["mean", "mean+std", "max"] = "mean"
    layer: int | None = None
    layers: Literal["all"] | None = None


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
    wav
        Also write the reconstruction as a sound file.
    """

    mask: Literal["random", "vertical", "horizontal", "chessboard", "structured"] = "random"
    mask_ratio: float | None = None
    start: float = 0.0
    seed: int = 0
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


@dataclass(frozen=True)
class SelectionOptions:
    """Options of an import of raven or audacity annotations.

    Parameters
    ----------
    background
        raven, audacity: also write parts between the annotations, as many as there are annotations. Their label is
        background. If a part has several labels, they have none.
    label_column
        raven: column with the label. Default: Annotation, Label, Species, Common Name or another usual name.
    """

    background: bool = False
    label_column: str | None = None
