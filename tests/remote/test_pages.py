"""Pages of runs at addresses: what is written there, what is kept, and what an error names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import unheard
from unheard.addresses import named
from unheard.cli import main
from unheard.config import override
from unheard.errors import CheckpointError, ConfigError, RemoteError
from unheard.files import read_json, write_json
from unheard.recipes import find_recipe
from unheard.remote.cache import cache_folder
from unheard.remote.listing import files_below, is_file
from unheard.remote.reading import open_file
from unheard.remote.writing import upload_folder
from unheard.view import report

SIZES = {"frames": 48, "embed_dim": 24, "depth": 1, "num_heads": 2}
SIZES |= {"decoder_embed_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
SETTINGS = [*(f"model.{name}={size}" for name, size in SIZES.items()), "training.batch_size=4", "training.steps=2"]
RECIPE = override(find_recipe("msm-mae"), SETTINGS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder of sounds next to it."""
    folder, generator = tmp_path_factory.mktemp("trained"), np.random.default_rng(0)
    (folder / "sounds").mkdir()
    for number in range(6):
        soundfile.write(folder / "sounds" / f"{number}.wav", 0.1 * generator.standard_normal(16_000), 16000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unheard.view.run.finish", lambda run, store, log: None)
        return unheard.pretrain(folder / "sounds", folder / "run", RECIPE, device="cpu").folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def uploaded(run: Path, address: str) -> str:
    """Upload a run, as a mirrored one is."""
    upload_folder(run, address, [path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()])
    return address


def test_a_report_at_an_address_is_the_local_one(
    run: Path, memory: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded(run, memory)
    before, plain = set(files_below(memory)), report.write_page

    def meanwhile(*given: object, **values: object) -> Path:
        upload_folder(run, f"{memory}/later", ["config.json"])  # by the process that trains the run
        return plain(*given, **values)  # type: ignore[arg-type]

    monkeypatch.setattr(report, "write_page", meanwhile)
    assert main(["report", memory, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": f"{memory}/report.html"}
    assert set(files_below(memory)) - before == {"report.html", "figures/curves.png", "later/config.json"}
    assert before <= set(files_below(memory))
    with open_file(f"{memory}/report.html") as file:
        page = file.read()
    monkeypatch.undo()
    assert unheard.report(run).read_bytes().count(b"<img") == page.count(b"<img") > 0


def test_what_cannot_be_shown_is_named_by_its_address(
    run: Path, memory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload_folder(run, memory, ["metrics.jsonl"])
    with pytest.raises(CheckpointError, match=rf"no run at {memory};"):
        unheard.report(memory)
    assert list(files_below(memory)) == ["metrics.jsonl"]
    with pytest.raises(CheckpointError, match=rf"no run at {memory};"):
        unheard.compare(run, memory, tmp_path / "page.html")
    with pytest.raises(RemoteError, match=rf"{memory}/none"):
        unheard.compare(run, f"{memory}/none", tmp_path / "page.html")
    with pytest.raises(ConfigError, match=rf"{memory} and {memory}/ are one run"):
        unheard.compare(memory, f"{memory}/", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    assert main(["debug", "replay", uploaded(run, f"{memory}/run")]) == 2
    assert f"{memory}/run" in capsys.readouterr().err


def test_a_run_at_an_address_is_compared_as_a_local_one(run: Path, memory: str, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    config = read_json(other / "config.json")
    config["recipe"]["training"]["learning_rate"] = 0.5
    write_json(other / "config.json", config)
    local = unheard.compare(run, other, tmp_path / "local.html", device="cpu")
    found = unheard.compare(uploaded(run, f"{memory}/run"), other, f"{memory}/page.html", device="cpu")
    assert is_file(f"{memory}/page.html") and named(found.runs[0].path) == f"{memory}/run"
    assert [(each.changed == "", each.state) for each in found.runs] == [(True, "finished"), (False, "finished")]
    assert found.settings == local.settings and [name for name, *_ in found.settings] == [
        "recipe.training.learning_rate"
    ]
    (other / "finished.json").unlink()
    unfinished = unheard.compare(run, uploaded(other, f"{memory}/unfinished"), tmp_path / "page.html", device="cpu")
    assert [each.state for each in unfinished.runs] == ["finished", "unknown"]
    assert (found.scores, found.notes) == (local.scores, local.notes) == ([], [])
    with open_file(f"{memory}/page.html") as file:
        text = file.read().decode()
    assert text.count("<img") == (tmp_path / "local.html").read_text().count("<img") > 3
    assert str(tmp_path / "run") not in text


def test_runs_at_an_address_are_listed_without_their_weights(
    run: Path, memory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (stopped := Path(shutil.copytree(run, tmp_path / "stopped")) / "finished.json").unlink()
    (local,), _ = unheard.api.runs(run)
    uploaded(run, f"{memory}/runs/b")
    uploaded(stopped.parent, f"{memory}/runs/a")
    upload_folder(run / "model", f"{memory}/runs/only-a-model", ["config.json", "model.safetensors"])
    upload_folder(run, f"{memory}/runs/damaged", ["config.json", "metrics.jsonl"])
    (tmp_path / "bad" / "config.json").parent.mkdir()
    (tmp_path / "bad" / "config.json").write_text("{")
    upload_folder(tmp_path / "bad", f"{memory}/runs/damaged", ["config.json"])
    found, unreadable = unheard.api.runs(f"{memory}/runs")
    assert [named(each.path) for each in found] == [f"{memory}/runs/a", f"{memory}/runs/b"]
    assert [each.state for each in found] == ["unknown", "finished"] and {each.changed for each in found} == {""}
    assert (found[1].loss, found[1].steps, found[1].total) == (local.loss, local.steps, local.total)
    assert len(unreadable) == 1 and unreadable[0].startswith(f"{memory}/runs/damaged")
    copied = [path for path in cache_folder().rglob("*") if path.suffix == ".safetensors"]
    assert main(["runs", f"{memory}/runs", "--json"]) == 0 and not copied
    assert [each["path"] for each in json.loads(capsys.readouterr().out)["runs"]] == [
        f"{memory}/runs/{n}" for n in "ab"
    ]
    assert main(["runs", f"{memory}/none"]) == 2 and f"{memory}/none" in capsys.readouterr().err
    upload_folder(run / "model", f"{memory}/models", ["model.safetensors"])
    assert main(["runs", f"{memory}/models"]) == 0
    assert f"no runs below {memory}/models" in capsys.readouterr().out
