"""Figures as in papers: which masks and windows they show, their titles and axes, and options that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure

import unheard
from unheard.audio.frontend import Statistics
from unheard.cli import main
from unheard.config import override
from unheard.embedding.embedder import Model
from unheard.embedding.loading import load
from unheard.errors import CheckpointError, ConfigError
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.view.figures.kinds import RATIOS, FigurePlan, draw_figure
from unheard.view.figures.panels import mean_squared_error
from unheard.view.window import reconstruct_window, take_window
from unheard.weights.checkpoint import Provenance, SavedModel, save_model

SIZES = ("embed_dim=24", "depth=1", "num_heads=2", "decoder_embed_dim=16", "decoder_depth=1", "decoder_num_heads=2")


def made(frames: int, patch: tuple[int, int] = (16, 16)) -> SavedModel:
    sizes = [
        *(f"model.{size}" for size in SIZES),
        f"model.frames={frames}",
        f"model.patch_size=[{patch[0]},{patch[1]}]",
    ]
    recipe = override(find_recipe("msm-mae"), sizes)
    return SavedModel(build(recipe), recipe, Statistics((-9.0,), (4.0,)), Provenance(), None)


@pytest.fixture(scope="module")
def model() -> Model:
    """80 bands and 304 frames: 5 x 19 = 95 patches, as in the paper."""
    return Model(made(304).frozen())


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file, rng = tmp_path_factory.mktemp("sound") / "tone.wav", np.random.default_rng(0)
    time = np.arange(4 * 16000) / 16000
    wav = 0.3 * np.sin(2 * np.pi * 440 * time) * (time % 0.5 < 0.25) + 0.01 * rng.standard_normal(len(time))
    soundfile.write(file, wav.astype(np.float32), 16000)
    return file


def titles(figure: Figure) -> list[str]:
    return [text for axes in figure.axes if (text := axes.get_title(loc="left"))]


def test_ratios_are_those_of_the_paper(model: Model, sound: Path) -> None:
    """Of 95 patches 10, 5, 2 and 1 stay visible at .90, .95, .98 and .99."""
    figure = draw_figure("ratios", [model], [sound])
    shown = [text for text in titles(figure) if text.startswith("ratio")]
    visible = dict(zip(RATIOS, [57, 48, 24, 10, 5, 2, 1], strict=True))
    assert shown == [f"ratio {ratio:.2f}, {count} visible" for ratio, count in visible.items()]
    assert titles(figure)[0] == "tone.wav: input"


def test_masks_differ_and_have_their_error_in_the_title(model: Model, sound: Path) -> None:
    figure = draw_figure("masks", [model], [sound], FigurePlan(mask_ratio=0.5, seed=3))
    window = take_window(model, sound)
    reconstructions = [reconstruct_window(model, window, "random", 0.5, seed) for seed in (3, 4, 5)]
    errors = [mean_squared_error(each, np.full(80, 4.0, np.float32)) for each in reconstructions]
    assert [text for text in titles(figure) if "MSE" in text] == [f"MSE {error:.3f}" for error in errors]
    assert len({each.hidden.tobytes() for each in reconstructions}) == 3


def test_the_error_is_that_of_the_normalised_input(model: Model, sound: Path) -> None:
    window = take_window(model, sound)
    shown = reconstruct_window(model, window)
    variance = float(window.normal[0, :, : window.spec.shape[1]].var(unbiased=False))
    assert mean_squared_error(shown, np.full(80, 4.0, np.float32)) == pytest.approx(
        shown.error.model * variance, rel=1e-4
    )


def test_strips_are_the_three_patterns(model: Model, sound: Path) -> None:
    figure = draw_figure("strips", [model], [sound, sound])
    shown = [text for text in titles(figure) if "masked" in text]
    each = ["vertical, 47% masked", "horizontal, 40% masked", "chessboard, 49% masked"]
    assert shown == [text for text in each for _ in range(2)]  # a row for each mask, a column for each sound


def test_panels_of_a_sound_share_colours_and_axes(model: Model, sound: Path) -> None:
    figure = draw_figure("strips", [model], [sound], FigurePlan(start=0.5))
    panels = [axes for axes in figure.axes if axes.images and axes.get_visible()]
    limits = {axes.images[0].get_clim() for axes in panels if len(axes.images) and axes.get_xlabel() != "log-mel (nat)"}
    spectrograms = [axes for axes in panels if axes.get_title(loc="left")]
    assert len(spectrograms) == 7 and len({axes.images[0].get_clim() for axes in spectrograms}) == 1 and limits
    assert all(axes.get_xlim() == pytest.approx((0.5, 0.5 + 3.04)) for axes in spectrograms)
    assert spectrograms[0].get_ylabel() == "frequency (Hz)" and spectrograms[-1].get_xlabel() == "time (s)"


def test_attention_has_two_points_of_every_sound(model: Model, sound: Path) -> None:
    figure = draw_figure("attention", [model], [sound, sound, sound])
    shown = titles(figure)
    assert [text[:22] for text in shown] == ["tone.wav", "attention of patch A: ", "attention of patch B: "] * 3
    chosen = draw_figure("attention", [model], [sound], FigurePlan(at=[(0, 0), (4, 18), (2, 3)]))
    assert titles(chosen)[1].startswith("attention of patch A: 0.08 s") and len(titles(chosen)) == 4


def test_durations_are_those_of_the_models_or_parts_of_one(model: Model, sound: Path) -> None:
    short = Model(made(208).frozen())
    figure = draw_figure("durations", [model, short], [sound])
    assert [text.split(",")[0] for text in titles(figure) if "MSE" not in text] == ["tone.wav: 2.08 s", "3.04 s"]
    parts = draw_figure("durations", [model], [sound])
    assert [text for text in titles(parts) if "MSE" not in text] == ["tone.wav: 0.80 s", "1.60 s", "3.04 s"]


def test_patches_are_in_order_of_their_size(model: Model, sound: Path) -> None:
    models = [model, Model(made(304, (8, 16)).frozen()), Model(made(304, (80, 4)).frozen())]
    shown = [text.split(",")[0] for text in titles(draw_figure("patches", models, [sound])) if "MSE" not in text]
    assert shown == ["tone.wav: patches of 8 x 16", "patches of 16 x 16", "patches of 80 x 4"]


@pytest.mark.parametrize(
    ("kind", "plan", "message"),
    [
        ("mask", FigurePlan(), "unknown figure 'mask'; choose one of masks, ratios"),
        ("masks", FigurePlan(at=[(0, 0)]), "leave it out for masks"),
        ("ratios", FigurePlan(mask_ratio=0.5), "leave --mask-ratio out"),
        ("attention", FigurePlan(at=[(9, 0)]), "outside the window"),
        ("attention", FigurePlan(at=[(0, 0)] * 9), "at most 8 reference patches"),
    ],
)
def test_invalid_requests_are_refused(model: Model, sound: Path, kind: str, plan: FigurePlan, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw_figure(kind, [model], [sound], plan)
    with pytest.raises(ConfigError, match="do not fit a figure"):
        draw_figure("masks", [model], [sound] * 13)


def test_a_model_without_decoder_is_refused(sound: Path) -> None:
    bare = made(304)
    alone = Model(replace(bare, provenance=replace(bare.provenance, encoder_only=True)).frozen())
    with pytest.raises(CheckpointError, match="no trained decoder"):
        draw_figure("masks", [alone], [sound])


def test_the_command_writes_a_figure(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = made(64)
    save_model(tmp_path / "model", saved.learner, saved.recipe, saved.statistics, saved.provenance)
    given = [str(tmp_path / "model"), str(sound), "-o", str(tmp_path / "strips.svg"), "--device", "cpu"]
    assert main(["figure", "strips", *given]) == 0
    assert "<svg" in (tmp_path / "strips.svg").read_text()[:2000]
    assert main(["figure", "strips", *given]) == 2 and "exists" in capsys.readouterr().err
    assert main(["figure", "strips", str(tmp_path / "no.wav"), "-o", str(tmp_path / "x.png")]) == 2
    assert "neither a model nor a sound file" in capsys.readouterr().err
    unheard.figure("masks", load(str(tmp_path / "model"), "cpu"), sound, tmp_path / "masks.pdf")
    assert (tmp_path / "masks.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("kind", ["patches", "masks"])
def test_a_model_that_is_given_twice_is_refused_by_name(kind: str, sound: Path, tmp_path: Path) -> None:
    saved = made(304)
    save_model(tmp_path / "first", saved.learner, saved.recipe, saved.statistics, saved.provenance)
    with pytest.raises(ConfigError, match="the model .*first is given twice"):
        draw_figure(kind, [load(tmp_path / "first", "cpu"), load(f"{tmp_path}/./first", "cpu")], [sound])
