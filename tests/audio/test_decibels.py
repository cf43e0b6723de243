"""The front end that scales each window by its own extremes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unheard.audio.decibels import DB_MINMAX, DbMinMax, DbMinMaxConfig
from unheard.errors import ConfigError


def tone(seconds: float = 1.0) -> torch.Tensor:
    time = torch.arange(int(16000 * seconds)) / 16000
    return 0.5 * torch.sin(2 * torch.pi * 1000 * time) * torch.linspace(0, 1, len(time))


def test_a_window_alone_and_in_a_batch_have_the_same_values() -> None:
    front, normal = DbMinMax(), DB_MINMAX.statistics()
    loud, quiet = tone(), 1e-3 * tone()
    both = normal.normalise(front(torch.stack([loud, quiet])))
    alone = normal.normalise(front(quiet[None]))
    torch.testing.assert_close(both[1], alone[0])
    assert both.amin() == 0 and both.amax() == pytest.approx(1, abs=1e-6)


def test_padding_has_no_part_in_the_extremes() -> None:
    front, normal = DbMinMax(), DB_MINMAX.statistics()
    spec = front(tone()[None])
    filled = torch.nn.functional.pad(spec, (0, 30), value=1e6)
    real = torch.arange(filled.shape[2])[None] < spec.shape[2]
    torch.testing.assert_close(normal.normalise(filled, real)[..., : spec.shape[2]], normal.normalise(spec))


def test_values_far_below_the_maximum_are_cut() -> None:
    unit = DB_MINMAX.statistics().normalise(torch.tensor([[[0.0, -40.0, -80.0, -100.0]]]))
    torch.testing.assert_close(unit, torch.tensor([[[1.0, 0.5, 0.0, 0.0]]]))


def test_silence_is_zero_and_both_paths_agree() -> None:
    front, normal = DbMinMax(), DB_MINMAX.statistics()
    assert normal.normalise(front(torch.zeros(1, 16000))).abs().max() == 0
    fast = normal.normalise_frames(front.spectrogram_cpu(tone().numpy()))
    np.testing.assert_allclose(fast.T, normal.normalise(front(tone()[None]))[0].numpy(), atol=1e-4)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"frontend\.f_min"):
        DbMinMaxConfig(f_max=9000.0)
