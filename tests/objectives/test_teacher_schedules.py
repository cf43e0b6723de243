"""Momenta and temperatures: the published numbers at the published length, a teacher that forgets its first weights at
any other.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unheard.objectives.teacher_schedules import (
    MAX_INITIAL_WEIGHT,
    TeacherConfig,
    TrainingProgress,
    exponential_decay,
    linear_warmup,
    momentum,
)

PUBLISHED = 294_816
ENCODER, HEAD = (0.99995, 0.99999), (0.998, 1.0)


def left(start: float, end: float, max_initial_weight: float, total: int) -> float:
    """Share of the first weights that is left when a run is over."""
    return math.prod(
        momentum(start, end, max_initial_weight, TrainingProgress(step, total)) for step in range(1, total)
    )


@pytest.mark.parametrize(("start", "end"), [ENCODER, HEAD], ids=["encoder", "head"])
def test_at_the_published_length_the_published_numbers_come_out(start: float, end: float) -> None:
    for step in (0, 1, 100_000, PUBLISHED - 1):
        expected = start + (end - start) * step / PUBLISHED
        assert momentum(start, end, MAX_INITIAL_WEIGHT, TrainingProgress(step, PUBLISHED)) == pytest.approx(
            expected, abs=1e-8
        )


@given(total=st.integers(300, 4000))
def test_a_short_run_forgets_as_much_as_the_published_one(total: int) -> None:
    assert left(*ENCODER, MAX_INITIAL_WEIGHT, total) < 2 * MAX_INITIAL_WEIGHT
    assert left(*HEAD, MAX_INITIAL_WEIGHT, total) < 2 * MAX_INITIAL_WEIGHT


def test_with_most_left_1_the_numbers_stand_whatever_the_length() -> None:
    assert left(*ENCODER, 1.0, 2000) == pytest.approx(0.942, abs=2e-3)  # a random teacher, frozen
    assert momentum(*HEAD, 1.0, TrainingProgress(5, 10)) == pytest.approx(0.999)


def test_a_run_of_a_few_steps_copies_the_student_and_a_momentum_of_one_stays() -> None:
    assert momentum(*ENCODER, MAX_INITIAL_WEIGHT, TrainingProgress(0, 5)) == 0.0
    assert momentum(1.0, 1.0, MAX_INITIAL_WEIGHT, TrainingProgress(3, 5)) == 1.0


def test_the_teacher_is_due_once_a_step_and_not_before_the_first() -> None:
    before, after = TeacherConfig(update_at="before_step"), TeacherConfig(update_at="after_step")
    assert [before.should_update("before_step", TrainingProgress(step, 3)) for step in range(3)] == [False, True, True]
    assert [after.should_update("after_step", TrainingProgress(step + 1, 3)) for step in range(3)] == [True] * 3
    assert not before.should_update("after_step", TrainingProgress(1, 3)) and not after.should_update(
        "before_step", TrainingProgress(1, 3)
    )


def test_temperatures_warm_linearly_and_cool_exponentially() -> None:
    def at(progress: float) -> torch.Tensor:
        return torch.tensor(progress, dtype=torch.float64)

    assert [float(linear_warmup(at(p), 0.04, 0.07, 0.2)) for p in (0, 0.1, 0.2, 1)] == pytest.approx(
        [0.04, 0.055, 0.07, 0.07]
    )
    assert float(linear_warmup(at(0.5), 0.04, 0.07, 0.0)) == pytest.approx(0.07)
    assert [float(exponential_decay(at(p), 0.1, 1e-4, 0.78)) for p in (0, 0.39, 0.78)] == pytest.approx(
        [0.1, math.sqrt(1e-5), 1e-4]
    )
