"""Feature distillation into several layers and from several teachers, and the settings of teachers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.objectives.test_distill import (
    ONLY,
    PLAIN,
    SMALL,
    TEACHER,
    B,
    C,
    D,
    K,
    N,
    a_batch,
    a_pass,
    built,
    config_of,
    gradients,
)

from unheard.config import override
from unheard.errors import ConfigError
from unheard.model.masking import random
from unheard.objectives.distill import DistillTeacher, short_names
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes.learner import build


def test_each_layer_has_a_head_and_their_mean_counts() -> None:
    out, generator = a_pass(), torch.Generator().manual_seed(5)
    out.layers = {number: torch.randn(B, K, D, generator=generator) for number in (1, 3)}
    objective = built(config_of(layers=(3, 1), hidden=0.0, pooled=0.5))
    expected = 0.0
    for number, place in ((3, 0), (1, 1)):
        alone = built(config_of(hidden=0.0, pooled=0.5))
        alone.terms[0].heads[0].load_state_dict(objective.terms[0].heads[place].state_dict())
        expected += float(alone(replace(out, visible=out.layers[number]), a_batch()).detach()) / 2
    assert float(objective(out, a_batch()).detach()) == pytest.approx(expected, rel=1e-5)


def test_the_layers_are_those_of_the_encoder_and_only_when_asked_for() -> None:
    settings = ["model.depth=3", "objectives.distill.teachers.0.layers=[1,3]", "objectives.distill.teachers.0.hidden=0"]
    learner, batch = gradients(settings)
    assert learner.model.layers == (1, 3) and gradients([])[0].model.layers == ()
    mask = random(batch.noise, 0.75, batch.valid)
    with torch.no_grad():
        patches = learner.grid.patchify(batch.spec)
        out, layers = learner.model(patches, mask), learner.model.encoder.layers(patches, mask.keep)
    assert list(out.layers) == [1, 3] and torch.equal(out.layers[1], layers[0])
    assert torch.equal(out.layers[3], out.visible)
    first = override(ONLY, [*settings, "objectives.distill.teachers.0.layers=[1]"])
    assert build(first, 0).model.layers == (1,)


def test_the_loss_of_several_teachers_is_their_weighted_sum() -> None:
    teachers = (replace(TEACHER, weight=0.5), DistillTeacher("U", 2.0, dim=3, distance="mse"))
    out, objective = a_pass(), built(replace(PLAIN, teachers=teachers))
    other = torch.randn(B, N, 3, generator=torch.Generator().manual_seed(9))
    batch = replace(a_batch(), targets=(a_batch().targets[0], other))
    expected, alone_losses = 0.0, []
    for number, teacher in enumerate(teachers):
        alone = built(replace(PLAIN, teachers=(replace(teacher, weight=1.0),)))
        alone.terms[0].load_state_dict(objective.terms[number].state_dict())
        value = alone(out, replace(batch, targets=(batch.targets[number],)))
        expected += teacher.weight * float(value.detach())
        alone_losses.append(float(value.detach()))
    assert float(objective(out, batch).detach()) == pytest.approx(expected, rel=1e-5)
    assert {name: float(value) for name, value in out.terms.items()} == pytest.approx(
        {"distill/T": alone_losses[0], "distill/U": alone_losses[1]}, rel=1e-5
    )
    objective.after_step(TrainingProgress(1, 10))
    torch.testing.assert_close(objective.terms[1].running[0], other.mean((0, 1)))
    assert float(objective.terms[0].initialised) == 0  # standardise="none"


def test_metrics_have_the_loss_of_each_of_several_teachers() -> None:
    teachers = f'[{{"name": "models/clap", "dim": {C}}}, {{"name": "hear:panns", "dim": {C}, "weight": 0.5}}]'
    learner = build(override(ONLY, [f"objectives.distill.teachers={teachers}"]), 0)
    _, batch = gradients([])
    assert batch.targets is not None
    losses = learner.losses(replace(batch, targets=2 * batch.targets), random(batch.noise, 0.75, batch.valid))
    expected = losses["loss/distill/clap"] + 0.5 * losses["loss/distill/panns"]
    torch.testing.assert_close(losses["loss/distill"].detach(), expected)
    alone, batch = gradients([])
    assert set(alone.losses(batch, random(batch.noise, 0.75, batch.valid))) == {"loss", "loss/distill"}


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["models/clap", "hear:panns_hear"], ["clap", "panns_hear"]),
        (["hf:models/ast/", "random-tiny"], ["ast", "random-tiny"]),
        (["old/clap", "new/clap", "ast"], ["0-clap", "1-clap", "2-ast"]),
    ],
)
def test_each_teacher_has_a_short_name_of_its_own(names: list[str], short: list[str]) -> None:
    assert short_names(names) == short


def test_stored_targets_are_used_as_they_were_read() -> None:
    out, batch = a_pass(), a_batch()
    stored, plain = built(config_of(standardise="stored")), built(PLAIN)
    assert torch.equal(stored(out, batch), plain(out, batch))
    assert not [name for name in stored.totals(batch, out.mask) if name.startswith("targets")]


def test_one_teacher_is_set_by_its_number_and_several_as_a_list() -> None:
    several = override(SMALL, ['objectives.distill.teachers=[{"name": "a"}, {"name": "b", "layers": [1]}]'])
    assert several.objectives.distill.teachers == (DistillTeacher("a"), DistillTeacher("b", layers=(1,)))
    changed = override(several, ["objectives.distill.teachers.1.weight=0.5"])
    assert changed.objectives.distill.teachers[1] == DistillTeacher("b", 0.5, layers=(1,))
    year = override(SMALL, ["objectives.distill.teachers.0.name=2024"])
    assert year.objectives.distill.teachers[0].name == "2024"
    both = ['objectives.distill.teachers=[{"name": "a"}]', "objectives.distill.teachers.0.distance=mse"]
    assert override(SMALL, both).objectives.distill.teachers == (DistillTeacher("a", distance="mse"),)
    for setting, words in (
        ('objectives.distill.teachers=[{"nam": "a"}]', r"teachers\.0\.nam.*did you mean.*name"),
        ("objectives.distill.teachers.3.name=a", r"there is no setting"),
        ("objectives.distill.teachers.0.layers=[0]", "greater than or equal to 1"),
        ("objectives.distill.teachers=[{name=2024}]", r"not valid JSON.*double quotes"),
        ("objectives.distill.teachers=a", "objectives.distill.teachers: got 'a'"),
    ):
        with pytest.raises(ConfigError, match=words):
            override(several, [setting])
