"""Folders of Hugging Face that cannot be used: one clear error each, and nothing in them runs."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.hf_models import CONVOLUTIONS, SMALL

transformers = pytest.importorskip("transformers")

from unheard.cli import main  # noqa: E402
from unheard.errors import CheckpointError, ConfigError, DataError, UnheardError  # noqa: E402
from unheard.teachers.hf_encoder import HfTeacher  # noqa: E402
from unheard.teachers.load import load_teacher  # noqa: E402
from unheard.weights.built_in import open_model  # noqa: E402

AST = "audio-spectrogram-transformer"
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter")
Folder = Callable[[str], Path]


@pytest.fixture
def copy(hf_model: Folder, tmp_path: Path) -> Folder:
    """A folder that a test may change."""
    return lambda kind: shutil.copytree(hf_model(kind), tmp_path / kind)


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refused(folder: Path, message: str, kind: type[UnheardError] = CheckpointError) -> None:
    with pytest.raises(kind, match=message) as error:
        load_teacher(f"hf:{folder}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors", r"has no model\.safetensors; only weights in safetensors are accepted"),
        ("preprocessor_config.json", r"has no preprocessor_config\.json"),
        ("config.json", r"has no config\.json"),
    ],
)
def test_a_missing_file_is_named(copy: Folder, name: str, message: str) -> None:
    folder = copy("hubert")
    (folder / name).unlink()
    refused(folder, message)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "there is no folder")
    with pytest.raises(CheckpointError, match="names no folder; write hf:DIR"):
        load_teacher("hf:")


@pytest.mark.parametrize("content", ["{", "[]", "\ufeff", '{"a": ' * 5000, '{"model_type": 3}', "{}"])
def test_a_config_that_is_no_json_object_is_refused(copy: Folder, content: str) -> None:
    folder = copy("hubert")
    (folder / "config.json").write_text(content, encoding="utf-8")
    refused(folder, r"config\.json")


def test_an_unknown_type_is_refused_with_those_that_are_known(copy: Folder) -> None:
    folder = copy("hubert")
    for kind in ("bert", "no-such-type", "encodec"):
        change(folder / "config.json", model_type=kind)
        refused(folder, f"model_type '{kind}', whose frames are not known; accepted: wav2vec2, hubert, .*whisper, clap")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_code_of_a_folder_is_never_run(copy: Folder, file: str) -> None:
    folder = copy("hubert")
    (folder / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Model: ...\n")
    change(folder / file, auto_map={"AutoModel": "code.Model", "AutoFeatureExtractor": "code.Model"})
    refused(folder, f"{file} has auto_map: .*never run")
    assert not (folder / "ran").exists()


def test_a_pickle_is_not_opened(copy: Folder) -> None:
    folder = copy("hubert")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(folder / "ran")))
    refused(folder, r"pytorch_model\.bin is a pickle, which could run code, and is not opened; only .* safetensors")
    assert not (folder / "ran").exists()


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_truncated_weights_are_refused(copy: Folder, size: int) -> None:
    folder = copy("hubert")
    held = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(held[:size])
    refused(folder, "cannot be read as safetensors")


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": {"a": "../hubert/model.safetensors"}}])
def test_an_index_of_other_folders_is_refused(copy: Folder, index: dict[str, Any]) -> None:
    folder = copy("hubert")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "lists no weight files of its own folder")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("hubert", {"hidden_size": 2**40}),
        ("hubert", {"hidden_size": 100_000, "num_attention_heads": 100}),
        ("hubert", {"num_hidden_layers": 10**9}),
        ("hubert", {"num_conv_pos_embeddings": 10**7}),
        ("wav2vec2", {"conv_dim": [10**6] * 7}),
        (AST, {"max_length": 10**7}),
        (AST, {"patch_size": 10**6}),
        ("whisper", {"max_source_positions": 10**9}),
        ("whisper", {"encoder_layers": 10**6}),
    ],
)
def test_sizes_beyond_the_weights_are_refused_before_anything_is_built(
    copy: Folder, kind: str, values: dict[str, Any]
) -> None:
    folder = copy(kind)
    change(folder / "config.json", **values)
    refused(
        folder, r"do not fit its configuration|transformers cannot use .*config\.json|preprocessor_config\.json gives"
    )


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("hubert", {"sampling_rate": 10**9}),
        ("hubert", {"sampling_rate": 0}),
        ("hubert", {"feature_extractor_type": "WhisperFeatureExtractor"}),
        (AST, {"num_mel_bins": 10**9}),
        (AST, {"num_mel_bins": 64}),
        (AST, {"max_length": 256}),
        (AST, {"sampling_rate": 44_100}),
        ("whisper", {"chunk_length": 10**9}),
        ("whisper", {"chunk_length": 30}),
        ("whisper", {"n_fft": 10**8}),
        ("whisper", {"hop_length": "x"}),
    ],
)
def test_a_preprocessor_of_another_model_is_refused(copy: Folder, kind: str, values: dict[str, Any]) -> None:
    folder = copy(kind)
    change(folder / "preprocessor_config.json", **values)
    refused(folder, r"preprocessor_config\.json")


@pytest.mark.parametrize("values", [{"hidden_size": "wide"}, {"hidden_size": None}, {"num_attention_heads": 3}])
def test_values_that_transformers_refuses_give_one_line(copy: Folder, values: dict[str, Any]) -> None:
    folder = copy("hubert")
    change(folder / "config.json", **values)
    refused(folder, "transformers cannot use .*config.json")


def test_weights_that_are_missing_of_another_shape_or_not_finite_are_named(copy: Folder) -> None:
    folder = copy("hubert")
    weights, name = load_file(folder / "model.safetensors"), "encoder.layers.1.attention.k_proj.weight"
    save_file({each: value for each, value in weights.items() if each != name}, folder / "model.safetensors")
    refused(folder, f"do not fit its configuration: {name}")
    save_file({**weights, name: torch.zeros(16, 8)}, folder / "model.safetensors")
    refused(folder, r"encoder\.layers\.1\.attention\.k_proj")
    save_file({**weights, name: torch.full((16, 16), torch.nan)}, folder / "model.safetensors")
    refused(folder, f"hold NaN or infinity in {name}")


def test_a_folder_without_its_prefix_says_what_to_write(hf_model: Folder) -> None:
    folder = hf_model("hubert")
    for load in (load_teacher, open_model):
        with pytest.raises(CheckpointError, match=f"write hf:{folder}"):
            load(str(folder))
    with pytest.raises(CheckpointError, match="is no model of this library, which this needs"):
        open_model(f"hf:{folder}")


def test_a_teacher_that_breaks_its_promises_is_named(hf_model: Folder) -> None:
    teacher = load_teacher(f"hf:{hf_model('hubert')}")
    assert isinstance(teacher, HfTeacher)
    wav, extract = torch.zeros(1, 16_000), teacher.extract
    for wrong, message in (
        (lambda wav: extract(wav) * torch.nan, "hubert from .* returned NaN or infinity"),
        (lambda wav: extract(wav)[..., 1:], "hubert from .* returned 48 columns instead of 49 for 16000 samples"),
        (lambda wav: extract(wav)[:, :12], "hubert from .* returned 12 channels instead of 16"),
    ):
        teacher.extract = wrong  # type: ignore[method-assign]
        with pytest.raises(DataError, match=message):
            teacher(wav)


def test_an_encoder_whose_frames_do_not_follow_its_hop_is_refused_when_it_is_opened(copy: Folder) -> None:
    folder = copy("wav2vec2")
    change(folder / "config.json", conv_stride=[5, 2, 2, 2, 2, 2, 0])
    refused(folder, "conv_stride or conv_kernel below 1")
    config = transformers.Wav2Vec2Config(add_adapter=True, num_adapter_layers=1, **SMALL, **CONVOLUTIONS)
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    refused(folder, r"wav2vec2 from .* returned 25 columns instead of 49", DataError)


@pytest.mark.parametrize("verb", ["embed", "probe", "evaluate"])
def test_the_command_line_gives_one_line_and_status_2(
    copy: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    folder = copy("hubert")
    (folder / "model.safetensors").unlink()
    (tmp_path / "tasks").mkdir()
    task = shutil.copytree(tmp_path / "tasks", tmp_path / "tasks" / "none")
    (task / "task_metadata.json").write_text("{}")
    assert main([verb, f"hf:{folder}", str(tmp_path / "tasks"), "-o", str(tmp_path / "out.csv")]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_a_hear_module_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="no_such_module cannot be imported"):
        load_teacher("hear:no_such_module")
