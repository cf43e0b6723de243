"""The options of a verb are described once: its keywords and the flags of its command have the same defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from unheard import api
from unheard.api.options import (
    ConvertOptions,
    DetectOptions,
    EmbedOptions,
    EvaluateOptions,
    ExportOptions,
    FigureOptions,
    FinetuneOptions,
    PretrainOptions,
    ProbeOptions,
    ReconstructOptions,
    SpreadOptions,
    TargetOptions,
)
from unheard.errors import ConfigError


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        (api.convert, ConvertOptions),
        (api.detect, DetectOptions),
        (api.detect, SpreadOptions),
        (api.embed, EmbedOptions),
        (api.embed, SpreadOptions),
        (api.plan_embed, EmbedOptions),
        (api.plan_embed, SpreadOptions),
        (api.evaluate, EvaluateOptions),
        (api.export, ExportOptions),
        (api.figure, FigureOptions),
        (api.finetune, FinetuneOptions),
        (api.pretrain, PretrainOptions),
        (api.probe, ProbeOptions),
        (api.reconstruct, ReconstructOptions),
        (api.targets, TargetOptions),
        (api.targets, SpreadOptions),
    ],
)
def test_a_function_takes_every_option_of_its_command(verb: Callable[..., Any], options: type) -> None:
    keywords = inspect.signature(verb).parameters
    assert {field.name: keywords[field.name].default for field in fields(options)} == vars(options())
    assert all(f"\n{field.name}\n" in (verb.__doc__ or "") for field in fields(options))


def test_a_plan_takes_the_arguments_of_its_job_and_no_others() -> None:
    plan, job = (inspect.signature(each).parameters for each in (api.plan_embed, api.embed))
    own = ("resume", "overwrite", "track")
    assert dict(plan) == {name: each for name, each in job.items() if name not in own}


def test_every_name_is_there_and_another_is_refused() -> None:
    assert all(callable(getattr(api, name)) for name in api.__all__)
    with pytest.raises(AttributeError, match=r"no attribute 'prob'.*probe"):
        _ = api.prob


def test_a_probe_needs_a_seed(tmp_path: Any) -> None:
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(ConfigError, match="--seeds must be at least 1"):
        api.probe("random-tiny", tmp_path / "labels.csv", tmp_path / "out", seeds=0)
