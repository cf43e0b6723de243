"""Pre-training on several sources: the run of a folder that holds them, which is resumed and may move as a whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import unheard
from unheard.api.pretraining import resume
from unheard.audio.frontend import MSM_MAE_16K
from unheard.cli import main
from unheard.data.corpus import open_corpus, root_of
from unheard.data.pack import pack
from unheard.errors import ConfigError, DataError
from unheard.training.checkpoints import checkpoints
from unheard.view.report import write_report
from unheard.weights.checkpoint import load_model

SIZES = ("frames=48", "embed_dim=24", "depth=1", "num_heads=2", "decoder_embed_dim=16", "decoder_depth=1")
SETTINGS = [
    *(f"model.{size}" for size in (*SIZES, "decoder_num_heads=2")),
    *("training.batch_size=4", "training.log_every=1", "training.checkpoint_every=3", "training.steps=6"),
]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of a complete run take longer than the run."""
    monkeypatch.setattr("unheard.view.run.finish", lambda *_: None)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder with three tar files of three sounds, and nothing else."""
    generator, folder = np.random.default_rng(0), tmp_path / "shards"
    (tmp_path / "loose").mkdir()
    folder.mkdir()
    for number in range(9):
        path = tmp_path / "loose" / f"{number}.wav"
        soundfile.write(path, (0.1 * generator.standard_normal(9000)).astype(np.float32), 16000)
        with tarfile.open(folder / f"train-{number // 3}.tar", "a") as tar:
            tar.add(path, path.name)
    return folder


def several(shards: Path) -> list[Path]:
    return sorted(shards.glob("train-*.tar"))


def losses(run: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


def interrupted(run: Path) -> Path:
    """Delete all but the first checkpoint of a complete run."""
    for folder in checkpoints(run)[1:]:
        shutil.rmtree(folder)
    (run / "finished.json").unlink()
    return run


def test_archives_are_the_run_of_their_folder_and_are_resumed(shards: Path, tmp_path: Path) -> None:
    unheard.pretrain(shards, tmp_path / "folder", settings=SETTINGS, device="cpu")
    names = [str(each) for each in several(shards)]
    run = tmp_path / "several"
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    assert main(["pretrain", *names, "-o", str(run), *settings, "--device", "cpu"]) == 0
    stored = json.loads((run / "config.json").read_text())
    alone = json.loads((tmp_path / "folder/config.json").read_text())
    assert stored["data"] == names and alone["data"] == str(shards)
    assert {name for name in stored if stored[name] != alone[name]} == {"data", "content_sha256"}
    whole, weights = losses(run), load_model(run).learner.export_state_dict()
    assert whole == losses(tmp_path / "folder")
    assert main(["pretrain", "--resume", str(interrupted(run)), "--device", "cpu"]) == 0
    assert losses(run) == whole
    again = load_model(run).learner.export_state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in again.items())
    assert f"{names[0]}, {names[1]}, {names[2]}" in write_report(run).read_text()


def test_another_order_is_another_corpus(shards: Path, tmp_path: Path) -> None:
    unheard.pretrain(several(shards), tmp_path / "run", settings=SETTINGS, device="cpu")
    run = interrupted(tmp_path / "run")
    with pytest.raises(DataError, match=r"the corpus .*train-2\.tar, .*train-0\.tar is not the one that"):
        resume(run, data=several(shards)[::-1], device="cpu")
    with pytest.raises(DataError, match="is not the one that"):
        resume(run, data=several(shards)[:2], device="cpu")


def test_sources_move_one_by_one_or_into_a_folder(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, new = tmp_path / "run", tmp_path / "new"
    unheard.pretrain(several(shards), run, settings=SETTINGS, device="cpu")
    whole = losses(run)
    shards.rename(new)
    command = ["pretrain", "--resume", str(interrupted(run)), "--device", "cpu"]
    assert main(command) == 2
    assert re.search(r"train-0\.tar: no such file .* --data NEW_PATH for each source\n$", capsys.readouterr().err)
    assert main([*command[:3], "--data", *map(str, several(new)), *command[3:]]) == 0
    assert losses(run) == whole
    assert json.loads((run / "config.json").read_text())["data"] == [str(each) for each in several(new)]
    resume(interrupted(run), data=new, device="cpu")
    assert losses(run) == whole and json.loads((run / "config.json").read_text())["data"] == str(new)
    with pytest.raises(ConfigError, match=r"was trained on .*new, so --data .*train-0\.tar, .* would not be used"):
        resume(run, data=several(new), device="cpu")


def test_a_job_that_is_started_again_finds_its_sources(shards: Path, tmp_path: Path) -> None:
    def begin(sources: list[Path]) -> None:
        unheard.pretrain(sources, tmp_path / "run", settings=SETTINGS, resume_or_start=True, device="cpu")

    begin(several(shards))
    whole = losses(interrupted(tmp_path / "run"))
    begin([Path(os.path.relpath(each)) for each in several(shards)])
    assert losses(tmp_path / "run") == whole
    interrupted(tmp_path / "run")
    with pytest.raises(DataError, match="is not the one that"):
        begin(several(shards)[1:])


def test_links_to_archives_are_found_again(shards: Path, tmp_path: Path) -> None:
    """A link may have the suffix that its file lacks, as in the cache of the Hugging Face Hub."""
    links = []
    for number, each in enumerate(several(shards)):
        each.rename(tmp_path / f"blob{2 - number}")
        links.append(shards / each.name)
        links[-1].symlink_to(tmp_path / f"blob{2 - number}")
    for name, sources in (("one", links[0]), ("several", links)):
        unheard.pretrain(sources, tmp_path / name, settings=SETTINGS, device="cpu")
        whole = losses(tmp_path / name)
        resume(interrupted(tmp_path / name), device="cpu")
        assert losses(tmp_path / name) == whole


def test_a_table_and_an_archive_are_one_corpus(shards: Path, tmp_path: Path) -> None:
    """Paths are relative to the common folder, and held-out rows are left out."""
    (tmp_path / "loose/some.csv").write_text("path,start,end,split\n3.wav,0.1,0.4,train\n4.wav,,,test\n")
    sources = [tmp_path / "loose/some.csv", shards / "train-0.tar"]
    corpus = open_corpus(sources)
    assert [clip.path for clip in corpus.clips] == [
        "loose/3.wav",
        *(f"shards/train-0.tar/{number}.wav" for number in range(3)),
    ]
    assert corpus.held_out == 1 and corpus.root == root_of(sources) == tmp_path


def test_what_cannot_be_joined_is_refused_in_one_line(shards: Path, tmp_path: Path) -> None:
    tars, loose = several(shards), tmp_path / "loose"
    (tmp_path / "link").symlink_to(loose)
    (tmp_path / "none").mkdir()
    (loose / "held.csv").write_text("path,split\n8.wav,test\n")
    pack(open_corpus(tars[0]), MSM_MAE_16K, tmp_path / "packed")
    for sources, message in (
        (
            [*tars, tars[0]],
            r"train-0\.tar/0\.wav is in .*train-0\.tar and again in .*train-0\.tar; give each",
        ),
        ([shards, tars[1]], r"train-1\.tar/3\.wav is in .*shards and again in .*train-1\.tar; give"),
        ([loose, tmp_path / "link"], r"loose/0\.wav is in .*loose and again in .*link; give"),
        ([loose, loose / "held.csv"], r"8\.wav is in .*loose and again in .*held\.csv; give"),
        (
            [tars[0], tmp_path / "packed"],
            r"packed is a packed corpus, which cannot be read together with other sources; join",
        ),
        ([tars[0], shards / "train-*.tar"], r"train-\*\.tar: no such file or folder; give folders of audio, archives"),
        ([tars[0], tmp_path / "none"], r"none: holds no sound files that can be read; leave it out"),
    ):
        with pytest.raises(DataError, match=message):
            unheard.pretrain(sources, tmp_path / "run", settings=SETTINGS, device="cpu")
    with pytest.raises(ConfigError, match="no source is given; give folders of audio, archives"):
        unheard.pretrain([], tmp_path / "run", settings=SETTINGS, device="cpu")


def test_checks_and_packs_count_a_sound_once(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tars = [str(each) for each in several(shards)]
    assert main(["data", "check", *tars, str(shards), os.path.relpath(tars[0]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 9
    (tmp_path / "none").mkdir()
    assert main(["data", "check", tars[0], str(tmp_path / "none")]) == 2
    assert re.search(r"no audio in .*none; give files, folders or archives", capsys.readouterr().err)
    assert main(["data", "pack", *tars, tars[0], "-o", str(tmp_path / "packed")]) == 2
    assert re.search(r"0\.wav is in .* and again in .*; give each sound once", capsys.readouterr().err)
    assert main(["data", "pack", *tars, "-o", str(tmp_path / "packed"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 9
