"""Registration of objectives: names that are refused, and the sections of a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from unheard.config import override
from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass
from unheard.objectives.base import Batch, Objective, Totals
from unheard.objectives.registry import REGISTERED, register
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.recipes.recipe import ObjectivesConfig


def forget() -> None:
    """Leave the objectives of the package only, as in a new process."""
    for name in [name for name, entry in REGISTERED.items() if not entry.config.__module__.startswith("unheard.")]:
        del REGISTERED[name]


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    forget()
    yield
    forget()


@dataclass(frozen=True)
class Other:
    weight: float = 0.0


@dataclass(frozen=True)
class Weightless:
    classes: tuple[str, ...] = ()


def nothing(config: Any, model: Any, teacher: Any) -> Objective:
    raise AssertionError("built")


@pytest.mark.parametrize(
    ("name", "config", "labels", "message"),
    [
        ("distill", Other, False, "objectives.distill is an objective of unheard; choose another name"),
        ("my.own", Other, False, "cannot be named 'my.own'"),
        ("items", Other, False, "cannot be named 'items'"),
        ("mine", Weightless, False, "Weightless must be a frozen dataclass with the field weight"),
        ("mine", int, False, "must be a frozen dataclass with the field weight"),
        ("mine", Other, True, "must be a frozen dataclass with the field classes"),
    ],
)
def test_what_cannot_be_registered_is_named(name: str, config: type, labels: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        register(name, config, nothing, labels=labels)


def test_sections_are_those_that_are_registered() -> None:
    with pytest.raises(ConfigError, match="Other is not the configuration of an objective"):
        ObjectivesConfig(Other())
    register("mine", Other, nothing)
    with pytest.raises(ConfigError, match="two sections"):
        ObjectivesConfig(Other(), Other(1.0))
    made = ObjectivesConfig(Other(0.5))
    assert (
        made.mine == Other(0.5)
        and list(made) == [*ObjectivesConfig(), "mine"]
        and hash(made) != hash(ObjectivesConfig())
    )
    assert made.updated(Other(0.0)).active().keys() == ObjectivesConfig().active().keys()
    with pytest.raises(AttributeError, match="cannot assign"):
        made.mine = Other()  # type: ignore[misc]
    with pytest.raises(AttributeError, match="no section objectives.yours"):
        _ = made.yours
    assert set(REGISTERED) == {*ObjectivesConfig(), "mine"}


class Named(Objective):
    """Adds the number of hidden patches, times a factor, under the names that it is given."""

    def __init__(self, factor: float, diagnostic: str, term: str = "", schedule: str = "") -> None:
        super().__init__()
        self.factor, self.diagnostic, self.term, self.schedule = factor, diagnostic, term, schedule

    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> torch.Tensor:
        value = out.decoded.square().mean() * self.factor
        out.sums["hidden"] = self.factor * totals["hidden"]
        if self.term:
            out.terms[self.term] = value.detach()
        return value

    def after_pass(self, sums: Totals) -> dict[str, torch.Tensor]:
        return {self.diagnostic: sums["hidden"]}

    def schedules(self, when: TrainingProgress) -> dict[str, float]:
        return {self.schedule: 1.0} if self.schedule else {}


@dataclass(frozen=True)
class Another:
    weight: float = 0.0


def two(first: Named, second: Named) -> tuple[PretrainModule, Batch]:
    """A learner with two objectives of a user, and a batch."""
    register("mine", Other, lambda *_: first)
    register("yours", Another, lambda *_: second)
    base = override(find_recipe("msm-mae"), ["model.frames=32", "model.size=tiny", "objectives.reconstruct.weight=0"])
    learner = build(replace(base, objectives=base.objectives.updated(Other(1.0), Another(1.0))))
    torch.manual_seed(0)
    patches = learner.grid.num_patches
    valid, rows = torch.ones(4, patches, dtype=torch.bool), torch.arange(4)
    spec, noise = torch.randn(4, learner.recipe.frontend.n_mels, 32), torch.rand(4, patches)
    return learner, Batch(spec, valid, rows, torch.full((4,), 32), torch.zeros(4), noise)


def test_two_objectives_may_use_one_name_for_their_sums() -> None:
    learner, batch = two(Named(1.0, "one"), Named(2.0, "two"))
    losses = learner.losses(batch, learner.training_mask(batch))
    hidden = float(learner.totals(batch, learner.training_mask(batch))["mine"]["hidden"])
    assert hidden > 0
    assert [float(losses[f"diagnostics/{name}"]) for name in ("one", "two")] == [hidden, 2 * hidden]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (Named(1.0, "same"), Named(2.0, "same"), "objectives.yours names a diagnostic 'same'"),
        (Named(1.0, "one", "part"), Named(2.0, "two", "part"), "objectives.yours names a term of the loss 'part'"),
        (Named(1.0, "one", "yours"), Named(2.0, "two"), "objectives.mine names a term of the loss 'yours'"),
    ],
)
def test_a_measured_name_of_two_objectives_is_refused(first: Named, second: Named, message: str) -> None:
    learner, batch = two(first, second)
    with pytest.raises(ConfigError, match=re.escape(message)):
        learner.losses(batch, learner.training_mask(batch))


def test_a_schedule_of_two_objectives_is_refused() -> None:
    learner, _ = two(Named(1.0, "one", schedule="rate"), Named(2.0, "two", schedule="rate"))
    with pytest.raises(ConfigError, match=re.escape("objectives.yours names a schedule 'rate'")):
        learner.schedules(TrainingProgress(0, 10))
