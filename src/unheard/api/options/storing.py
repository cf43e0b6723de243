"""Options of exports, conversions and stored targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ExportOptions:
    """Options of an exported model.

    Parameters
    ----------
    to
        Format. Default: onnx if the output ends in .onnx, xares if it ends in .py, unheard with --release, otherwise
        hf, a Hugging Face folder.
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

    to: Literal["onnx", "hf", "unheard", "xares"] | None = None
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
