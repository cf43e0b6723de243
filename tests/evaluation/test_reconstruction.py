import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unheard.evaluation.reconstruction import (
    ReconstructionError,
    hidden_values,
    interpolation_baselines,
    predict,
    reconstruction_error,
)
from unheard.model import masking
from unheard.model.patches import Grid
from unheard.weights.built_in import untrained


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_fill_ins_equal_a_plain_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    spec = torch.randn(1, 3, 9, generator=generator)
    hidden = torch.rand(1, 3, 9, generator=generator) < 0.6
    hidden[0, 0] = True  # a band with nothing visible
    filled = interpolation_baselines(spec, hidden)
    everything = spec[~hidden].mean() if bool((~hidden).any()) else torch.tensor(0.0)
    for band in range(3):
        seen = np.flatnonzero(~hidden[0, band].numpy())
        values = spec[0, band].numpy()
        for frame in range(9):
            got = {name: float(value[0, band, frame]) for name, value in filled.items()}
            if not len(seen):
                assert all(value == pytest.approx(float(everything), abs=1e-5) for value in got.values())
                continue
            distance = np.abs(seen - frame)
            assert got["band mean"] == pytest.approx(values[seen].mean(), abs=1e-5)
            assert any(got["nearest"] == pytest.approx(values[i], abs=1e-6) for i in seen[distance == distance.min()])
            assert got["linear"] == pytest.approx(np.interp(frame, seen, values[seen]), abs=1e-5)


def test_visible_patches_stay_and_hidden_ones_are_drawn():
    learner = untrained("random-tiny").learner
    spec = torch.randn(2, 80, 208)
    mask = masking.random(torch.rand(2, 65), 0.75)
    drawn, hidden = predict(learner, spec, mask), hidden_values(learner.grid, mask)
    assert torch.equal(drawn[~hidden], spec[~hidden])
    assert not torch.isclose(drawn[hidden], spec[hidden]).all()


def test_hidden_values_cover_the_hidden_patches():
    grid = Grid(2, 3, (4, 5))
    hidden = hidden_values(grid, masking.mask_from_flags(torch.tensor([[True, False, False, False, False, True]])))
    assert int(hidden.sum()) == 2 * 20 and bool(hidden[0, :4, :5].all()) and bool(hidden[0, 4:, 10:].all())


def test_an_error_of_one_means_knowing_only_the_mean():
    learner = untrained("random-tiny").learner
    head = learner.objectives["reconstruct"].head
    head.weight.zero_()
    head.bias.zero_()
    spec = torch.randn(64, 80, 208)
    error = reconstruction_error(learner, spec, masking.random(torch.rand(64, 65), 0.75))
    assert error.model == pytest.approx(1.0, abs=0.01)
    assert error.crops == 64 and set(error.baselines) == {"band mean", "nearest", "linear"}
    assert error.baselines["nearest"] == pytest.approx(2.0, abs=0.1)  # of two independent values
    assert "of the variance" in error.line()


def test_a_model_that_is_given_the_level_of_a_patch_is_held_against_that_level():
    learner = untrained("random-tiny").learner
    head = learner.objectives["reconstruct"]
    head.norm_pix = True
    head.head.weight.zero_()
    head.head.bias.zero_()
    spec = torch.randn(8, 80, 208) + 3 * torch.randn(8, 5, 13).repeat_interleave(16, 1).repeat_interleave(16, 2)
    error = reconstruction_error(learner, spec, masking.random(torch.rand(8, 65), 0.75))
    assert error.best[0] == "true patch mean" and error.model == pytest.approx(error.best[1], rel=1e-4)


def test_sentences_advise_only_a_model_that_a_baseline_equals():
    def sentences(model: float, mean: float) -> str:
        return ReconstructionError(model, {"band mean": mean, "linear": 2 * mean}, 1).sentences("Train longer.")

    assert "has 0.300: the reconstruction is better." in sentences(0.2, 0.3) and "longer" not in sentences(0.2, 0.3)
    assert sentences(0.3, 0.3).endswith("the reconstruction is not better. Train longer.")
    assert sentences(float("nan"), 0.3) == "The spectrograms have no variance, so the error has no unit."
