"""Options of the verbs: keywords of the functions of `unheard.api`, and flags of the command line.

The texts below are the help of the command line and of the functions. This module loads nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import cleandoc
from typing import Any, TypeVar

from unheard.api.options.detecting import DetectOptions as DetectOptions
from unheard.api.options.embedding import EmbedOptions as EmbedOptions
from unheard.api.options.evaluating import EvaluateOptions as EvaluateOptions
from unheard.api.options.evaluating import ProbeOptions as ProbeOptions
from unheard.api.options.inspecting import FigureOptions as FigureOptions
from unheard.api.options.inspecting import ReconstructOptions as ReconstructOptions
from unheard.api.options.spreading import SpreadOptions as SpreadOptions
from unheard.api.options.storing import ConvertOptions as ConvertOptions
from unheard.api.options.storing import ExportOptions as ExportOptions
from unheard.api.options.storing import TargetOptions as TargetOptions
from unheard.api.options.training import FinetuneOptions as FinetuneOptions
from unheard.api.options.training import PretrainOptions as PretrainOptions

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
