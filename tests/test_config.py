"""Configurations survive JSON, wrong settings are reported with a suggestion, and numbers stay in range."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unheard.audio.frontend import LogMelConfig
from unheard.audio.kaldi import KaldiFbankConfig
from unheard.config import from_json, names, override, to_json
from unheard.errors import ConfigError
from unheard.model.sizes import SIZES, ModelConfig
from unheard.recipes import find_recipe
from unheard.recipes.recipe import Recipe

BASE = find_recipe("msm-mae")

models = st.builds(
    ModelConfig,
    size=st.sampled_from(sorted(SIZES)),
    frames=st.integers(1, 5000),
    patch_size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    mask_ratio=st.floats(0, 0.99),
    embed_dim=st.none() | st.integers(1, 4096),
    mlp_ratio=st.floats(0.1, 8),
    cls_token=st.booleans(),
)


@given(model=models, seed=st.integers(0, 2**32 - 1), rate=st.none() | st.floats(0, 1), name=st.text())
def test_a_configuration_survives_json(model: ModelConfig, seed: int, rate: float | None, name: str) -> None:
    recipe = replace(BASE, name=name, model=model, training=replace(BASE.training, seed=seed, learning_rate=rate))
    assert from_json(Recipe, json.loads(json.dumps(to_json(recipe)))) == recipe


@given(frames=st.integers(1, 9999), ratio=st.floats(0, 0.999), pair=st.tuples(st.integers(1, 99), st.integers(1, 99)))
def test_every_value_can_be_set(frames: int, ratio: float, pair: tuple[int, int]) -> None:
    settings = [f"model.frames={frames}", f"model.mask_ratio={ratio!r}", f"model.patch_size={pair[0]}x{pair[1]}"]
    made = override(BASE, settings).model
    assert (made.frames, made.mask_ratio, made.patch_size) == (frames, ratio, pair)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model.patch_size=16x4", (16, 4)),
        ("model.patch_size=[8, 2]", (8, 2)),
        ("model.size=tiny", "tiny"),
        ("model.cls_token=false", False),
        ("training.steps=20", 20),
        ("training.steps=null", None),
        ("training.learning_rate=1e-3", 1e-3),
        ("training.learning_rate=0", 0.0),
        ("training.betas=[0.8, 0.9]", (0.8, 0.9)),
        ("training.compile=true", True),
        ("training.compile=null", None),
        ("frontend.f_min=20", 20.0),
        ("objectives.latents.weight=0.5", 0.5),
        ("name=my method, v2", "my method, v2"),
        ("name=a=b", "a=b"),
    ],
)
def test_settings_become_values_of_the_field_s_type(setting: str, value: object) -> None:
    made: object = override(BASE, [setting])
    for part in setting.partition("=")[0].split("."):
        made = getattr(made, part)
    assert made == value and type(made) is type(value)


def test_settings_apply_in_order_and_leave_the_original_alone() -> None:
    made = override(BASE, ["training.batch_size=4", "training.batch_size=8"])
    assert made.training.batch_size == 8 and BASE.training.batch_size == 128
    assert replace(made, training=BASE.training) == BASE
    assert override(BASE, []) == BASE


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.mask_ration=0.5", r"no setting 'model.mask_ration'; did you mean model\.mask_ratio\?"),
        ("mode.frames=3", r"did you mean model\.frames\?"),
        ("frames=3", r"did you mean model\.frames\?"),
        ("lerning_rate=3", r"did you mean training\.learning_rate\?"),
        ("objectives.latent.weight=1", r"did you mean objectives\.latents\.weight\?"),
        ("zzz.qqq=1", "the sections are data, frontend, hyperparameter_source, mask, model, name, objectives"),
        ("model=3", "no setting 'model'"),
        ("=3", "no setting ''"),
        ("model.depth", r"has the form section\.key=value, for example training\.batch_size=64; got 'model\.depth'"),
        ("model.frames=many", "model.frames: got 'many'; Input should be a valid integer"),
        ("model.frames=1.5", "model.frames: got 1.5"),
        ("model.size=tinny", "model.size: got 'tinny'; Input should be 'tiny', 'small', 'base', 'large' or 'huge'"),
        ("model.patch_size=16", "model.patch_size: got 16"),
        ("model.patch_size=[16]", r"model.patch_size: got \[16\]; value 1 is missing"),
        ("training.batch_size=null", "training.batch_size: got None"),
        ("frontend.hop_size=0", "frontend.hop_size is 0; it must be a whole number from 1"),
    ],
)
def test_what_does_not_fit_is_reported(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(BASE, [setting])


@pytest.mark.parametrize(
    "setting",
    [
        *(
            f"training.{name}=0"
            for name in ("steps", "epochs", "batch_size", "accumulate", "devices", "log_every", "clip_norm")
        ),
        *("training.checkpoint_every=0", "training.keep_checkpoints=0", "training.warmup=1.5", "training.seed=-1"),
        *(
            "training.learning_rate=NaN",
            "training.learning_rate=Infinity",
            "training.weight_decay=-1",
            "training.betas=[0.9, 2]",
        ),
        *("model.mask_ratio=1", "model.mask_ratio=-0.1", "model.patch_size=0x16", "model.depth=0", "model.mlp_ratio=0"),
        *("objectives.reconstruct.weight=-1", "objectives.latents.weight=NaN", "teacher.momentum_end=1.1"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{setting.partition('=')[0]}[.\d]*: got .*should be"):
        override(BASE, [setting])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, r"no setting 'modle'; did you mean model\?"),
        ({"model": {"framse": 3}}, r"no setting 'model\.framse'; did you mean model\.frames\?"),
        ({"objectives": {"latents": {"wait": 1}}}, r"did you mean objectives\.latents\.weight\?"),
        ({"model": 3}, "model: got 3"),
        ({"model": {"frames": "x"}}, "model.frames: got 'x'"),
        (3, "Recipe must be a JSON object of settings; got 3"),
        ([], "a JSON object"),
    ],
)
def test_json_that_does_not_fit_is_reported(values: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_json(Recipe, values)


def test_fields_left_out_take_their_defaults() -> None:
    assert from_json(Recipe, {"name": "x", "model": {"frames": 5}}) == Recipe(name="x", model=ModelConfig(frames=5))


def test_every_field_of_a_recipe_has_a_name_and_can_be_set_to_its_own_value() -> None:
    known = names(BASE)
    assert {
        "model.size",
        "training.log_every",
        "objectives.reconstruct.weight",
        "data.balance",
        "frontend.n_mels",
    } <= set(known)
    settings = []
    for name in known:
        value: object = to_json(BASE)
        for part in name.split("."):
            value = value[int(part) if isinstance(value, list) else part]  # type: ignore[index]
        settings.append(f"{name}={json.dumps(value)}")
    assert override(BASE, settings) == BASE


@dataclass(frozen=True)
class Leaf:
    table: dict[str, int] = field(default_factory=dict)
    note: str | None = None


def test_small_trees_work_too() -> None:
    assert from_json(Leaf, {"table": {"a": 1}, "note": "x"}) == Leaf({"a": 1}, "x")


def test_a_section_of_several_kinds_begins_again_when_its_kind_changes() -> None:
    recipe = find_recipe("msm-mae")
    changed = override(recipe, ["frontend.n_mels=64", "frontend.kind=kaldi-fbank", "frontend.f_min=30"])
    assert changed.frontend == KaldiFbankConfig(f_min=30.0)
    assert from_json(Recipe, json.loads(json.dumps(to_json(changed)))) == changed
    assert from_json(Recipe, {"frontend": {"n_mels": 64}}).frontend == LogMelConfig(n_mels=64)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("frontend.kind=maskpec", "did you mean maskspec"),
        ("frontend.f_max_jitter=3", "frontend.f_max"),
        ("frontend.kind=3", "log-mel, kaldi"),
    ],
)
def test_wrong_kinds_and_fields_of_other_kinds_are_refused(setting: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        override(find_recipe("msm-mae"), [setting])
