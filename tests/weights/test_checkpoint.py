"""A model folder is read back bit for bit and is never half written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import unheard
from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.errors import CheckpointError
from unheard.files import read_json, recover_interrupted, replace_folder, write_json
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.recipes.recipe import Recipe
from unheard.weights.checkpoint import Provenance, load_model, load_weights, save_model

SIZES = (
    "frames=32",
    "embed_dim=24",
    "depth=2",
    "num_heads=3",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
SMALL = override(find_recipe("msm-mae"), [*(f"model.{size}" for size in SIZES), "objectives.latents.weight=0.5"])
STATISTICS = Statistics((-6.25,), (4.125,))
ORIGIN = Provenance("a test", "CC0", {"steps": "3 of 3"}, ("be careful",))


def perturbed(recipe: Recipe = SMALL) -> PretrainModule:
    learner = build(recipe)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return learner


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", perturbed(), SMALL, STATISTICS, ORIGIN)
    return tmp_path / "model"


def test_a_saved_model_comes_back_bit_for_bit(folder: Path) -> None:
    loaded, learner = load_model(folder), perturbed()
    assert (loaded.recipe, loaded.statistics, loaded.provenance) == (SMALL, STATISTICS, ORIGIN)
    assert loaded.learner.export_state_dict().keys() == learner.export_state_dict().keys()
    for name, value in learner.export_state_dict().items():
        assert torch.equal(loaded.learner.export_state_dict()[name], value), name
    assert not loaded.learner.training and not any(p.requires_grad for p in loaded.learner.parameters())


def test_saving_again_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(folder)
    save_model(tmp_path / "again", loaded.learner, loaded.recipe, loaded.statistics, loaded.provenance)
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_folder_holds_three_readable_files_and_no_teacher(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert any(name.startswith("model.teacher.") for name in perturbed().state_dict())
    head = (folder / "model.safetensors").read_bytes()[:20000]
    assert b"model.encoder." in head and b"teacher" not in head


def test_the_card_says_what_the_model_is(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    for text in (
        "msm-mae",
        "width 24, 2 blocks, 3 heads",
        "80 mel bands",
        "32 frames (0.32 s)",
        "16 mel bands x 16 frames",
    ):
        assert text in card
    for text in ("mean -6.2500, deviation 4.1250", "a test", "CC0", "3 of 3", "- be careful", "unheard.load("):
        assert text in card


def test_a_model_is_found_in_its_run(folder: Path, tmp_path: Path) -> None:
    assert load_model(tmp_path).recipe == SMALL


def test_bands_have_statistics_of_their_own(tmp_path: Path) -> None:
    each = Statistics(tuple(np.linspace(-9, -3, 80).tolist()), (4.0,) * 80)
    save_model(tmp_path / "model", perturbed(), SMALL, each, ORIGIN)
    assert load_model(tmp_path / "model").statistics == each
    assert "80 bands" in (tmp_path / "model" / "README.md").read_text()


def test_a_newer_format_is_refused(folder: Path) -> None:
    write_json(folder / "config.json", {**read_json(folder / "config.json"), "format": 99, "unheard": "7.0"})
    with pytest.raises(CheckpointError, match=r"written by unheard 7\.0, newer than this one .*upgrade"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "is not a model; give a folder with config.json and model.safetensors"),
        ("model.safetensors", None, "is not a model; give a folder with config.json and model.safetensors"),
        ("config.json", b'{"format": 1, "recipe": ', "is damaged"),
        ("config.json", b"\xff\xfe\x00", "is damaged"),
        ("config.json", b"[1, 2]", "has no checksum"),
        ("config.json", b'{"format": 1}', "has no checksum"),
        ("config.json", {}, "no format number"),
        ("config.json", {"format": 1}, "does not describe a model of this version: 'recipe'"),
        ("config.json", {"format": 1, "recipe": 3}, "Recipe must be a JSON object of settings"),
        ("config.json", {"format": 1, "recipe": {"modle": {}}}, "did you mean model"),
        ("model.safetensors", b"", "differs from its checksum"),
        ("model.safetensors", b"\x80\x02}q\x00.", "differs from its checksum"),
    ],
)
def test_a_damaged_folder_is_named_with_what_is_wrong(
    name: str, content: bytes | dict[str, object] | None, message: str, folder: Path
) -> None:
    (folder / name).unlink()
    if isinstance(content, dict):
        write_json(folder / name, content)
    elif content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        unheard.load(folder)
    assert str(folder) in str(caught.value)


def test_a_cut_weight_file_is_refused(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="differs from its checksum"):
        load_model(folder)


def test_weights_of_another_size_are_named(folder: Path) -> None:
    other = perturbed(override(SMALL, ["model.embed_dim=36"]))
    with pytest.raises(CheckpointError, match=r"cls_token is \(24,\), expected \(36,\).* and \d+ more"):
        load_weights(other, load_model(folder).learner.export_state_dict(), "here")
    state = load_model(folder).learner.export_state_dict()
    state["extra"] = state.pop("model.encoder.cls_token")
    with pytest.raises(CheckpointError, match=r"weights of here .*missing model\.encoder\.cls_token; unknown extra"):
        load_weights(perturbed(), state, "here")


def test_an_error_while_writing_leaves_the_old_folder_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr("unheard.weights.checkpoint.model_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_model(folder, perturbed(), SMALL, STATISTICS, replace(ORIGIN, licence="other"))
    assert (folder / "model.safetensors").read_bytes() == before and load_model(folder).provenance == ORIGIN
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def put(text: str, folder: Path) -> None:
    replace_folder(folder, lambda place: place.joinpath("text").write_text(text) and None)


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_either_move_puts_the_old_folder_back(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("old", tmp_path / "model")
    rename, moves = Path.replace, iter(range(9))

    def failing_once(self: Path, target: Path) -> Path:
        if next(moves) == failing:
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", failing_once)
    with pytest.raises(OSError, match="no"):
        put("new", tmp_path / "model")
    assert (tmp_path / "model" / "text").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("left", "stands"),
    [
        ({"model": "old", ".model.part": "half"}, "old"),
        ({".model.old": "old", ".model.part": "new"}, "old"),
        ({".model.old": "old", "model": "new"}, "new"),
    ],
    ids=["while writing", "between the two moves", "before the old one was deleted"],
)
def test_whenever_the_program_dies_a_whole_folder_is_found(left: dict[str, str], stands: str, tmp_path: Path) -> None:
    for name, text in left.items():
        put(text, tmp_path / "made")
        (tmp_path / "made").rename(tmp_path / name)
    assert (recover_interrupted(tmp_path / "model") / "text").read_text() == stands
    put("next", tmp_path / "model")
    assert (recover_interrupted(tmp_path / "model") / "text").read_text() == "next"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_that_was_being_replaced_when_the_program_died_is_loaded(folder: Path) -> None:
    folder.rename(folder.with_name(".model.old"))
    assert load_model(folder.parent).recipe == SMALL
    assert unheard.load(folder).config == SMALL


def test_a_file_can_be_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    put("new", tmp_path / "model")
    put("newer", tmp_path / "model")
    assert (tmp_path / "model" / "text").read_text() == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["folder", "random-tiny"])
def test_a_model_that_is_loaded_in_inference_mode_can_be_trained(name: str, folder: Path) -> None:
    with torch.inference_mode():
        model = unheard.load(folder if name == "folder" else name)
    tensors = [*model.learner.parameters(), *model.learner.buffers(), *model.frontend.buffers()]
    assert not any(tensor.is_inference() for tensor in tensors)
    weight = model.encoder.patch_embed.weight.requires_grad_()
    model.encoder(torch.zeros(1, model.grid.num_patches, model.grid.patch_dim))[0].sum().backward()
    assert weight.grad is not None
