"""Label tables of HDF5 files in the forms of PaSST and MaskSpec, and of PANNs."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile

from unheard.audio.waveform import read
from unheard.cli import main
from unheard.data.label_table import read_labels
from unheard.datasets.archives.table import import_archives
from unheard.errors import DataError

CLASSES = 21
TARGETS = np.zeros((4, CLASSES), np.uint8)
for row, classes in enumerate([(0,), (3, 20), (), (7, 8)]):
    TARGETS[row, classes] = 1


def write(file: Path, targets: Any, dataset: str = "mp3") -> Path:
    """Write an HDF5 file with a sound for each row of targets: mp3 files as PaSST's scripts, or samples as PANNs'."""
    file.parent.mkdir(exist_ok=True)
    waves = 0.1 * np.random.default_rng(0).standard_normal((4, 8000))
    with h5py.File(file, "w") as out:
        if dataset == "mp3":
            rows = out.create_dataset("mp3", (4,), h5py.vlen_dtype("uint8"))
            for row, wave in enumerate(waves):
                soundfile.write(file.with_suffix(".mp3"), wave, 16000)
                rows[row] = np.frombuffer(file.with_suffix(".mp3").read_bytes(), np.uint8)
            file.with_suffix(".mp3").unlink()
        else:
            out.create_dataset("waveform", data=(32767 * waves).astype("int16"))
            out.attrs["sample_rate"] = 16000
        out.create_dataset("audio_name", data=np.array([f"Y{row}.mp3" for row in range(4)], "S20"))
        out.create_dataset("target", data=targets)
    return file


def rows(table: Path) -> list[list[str]]:
    with table.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """A list as AudioSet's, in another order than that of the classes."""
    lines = [f'{number},/m/{number},"name {number}, or so"\n' for number in range(CLASSES)]
    (tmp_path / "names.csv").write_text("index,mid,display_name\n" + "".join(reversed(lines)))
    return tmp_path / "names.csv"


@pytest.mark.parametrize("named", [False, True])
def test_bits_are_classes(named: bool, names: Path, tmp_path: Path) -> None:
    """Rows of the sounds of several files, with the split of each in AudioSet's names of files."""
    for split in ("balanced_train", "eval"):
        write(tmp_path / "hdf" / f"{split}_segments_mp3.hdf", np.packbits(TARGETS, axis=-1))
    table = tmp_path / "labels.csv"
    options = ["--classes", str(names)] if named else []
    assert main(["data", "import", "hdf5", str(tmp_path / "hdf"), "-o", str(table), *options]) == 0
    first, third = (
        ("name 3, or so|name 20, or so", "name 7, or so|name 8, or so")
        if named
        else (
            "class-003|class-020",
            "class-007|class-008",
        )
    )
    found = rows(table)
    assert found[0] == ["path", "label", "split"] and len(found) == 9
    assert found[2] == ["hdf/balanced_train_segments_mp3.hdf/1/Y1.mp3", first, "train"]
    assert found[3] == ["hdf/balanced_train_segments_mp3.hdf/2/Y2.mp3", "", "train"]
    assert found[8] == ["hdf/eval_segments_mp3.hdf/3/Y3.mp3", third, "test"]
    labels = read_labels(table)
    assert labels.classes[0] == ("name 0, or so" if named else "class-000") and labels.multilabel
    assert len(labels) == 8 and read(labels.paths[7])[1] == 16000


@pytest.mark.parametrize("kind", ["bool", "uint8", "float32"])
def test_zeros_and_ones_are_classes(kind: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.h5", TARGETS.astype(kind), "waveform")
    report = import_archives("hdf5", [file], tmp_path / "labels.csv", classes=[f"c{number}" for number in range(21)])
    assert rows(tmp_path / "labels.csv") == [
        ["path", "label"],
        *(["a.h5/0/Y0.wav", "c0"], ["a.h5/1/Y1.wav", "c3|c20"], ["a.h5/2/Y2.wav", ""], ["a.h5/3/Y3.wav", "c7|c8"]),
    ]
    assert (report.clips, report.labelled, report.classes) == (4, 3, 5)
    import_archives("hdf5", [file], tmp_path / "labels.csv")
    assert rows(tmp_path / "labels.csv")[2] == ["a.h5/1/Y1.wav", "class-003|class-020"]


def test_bits_behind_the_last_name_are_left_out_with_the_reason(tmp_path: Path) -> None:
    targets = np.packbits(TARGETS, axis=-1)
    targets[0, 2] |= 1
    file = write(tmp_path / "a.h5", targets)
    report = import_archives("hdf5", [file], tmp_path / "labels.csv", classes=[f"c{number}" for number in range(21)])
    assert [(Path(path).name, reason) for path, reason in report.left_out] == [
        ("Y0.mp3", "target holds the number 23, but there are 21 names of classes")
    ]


def test_other_values_are_left_out_with_the_reason(tmp_path: Path) -> None:
    """Such as the probabilities of OpenMIC."""
    targets = TARGETS.astype("float32")
    targets[1, 3], targets[2, 0] = 0.5, np.nan
    report = import_archives("hdf5", [write(tmp_path / "a.h5", targets)], tmp_path / "labels.csv")
    assert [reason.partition(";")[0] for _, reason in report.left_out] == ["target holds 0.5", "target holds nan"]
    assert report.clips == 2


def test_what_cannot_be_imported_is_named(
    names: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, table = write(tmp_path / "a.h5", np.packbits(TARGETS[:, :16], axis=-1)), tmp_path / "labels.csv"
    with pytest.raises(DataError, match=r"rows of target are of 2 classes, or of 9 to 16 as bits; 21 names are given"):
        import_archives("hdf5", [file], table, classes=[f"c{number}" for number in range(21)])
    with pytest.raises(DataError, match=r"has no dataset other, it has audio_name, mp3, target; select the targets"):
        import_archives("hdf5", [file], table, "other")
    with pytest.raises(DataError, match=r"audio_name has the shape \(4,\) of \|S20; it needs a row of 0 and 1"):
        import_archives("hdf5", [file], table, "audio_name")
    with pytest.raises(DataError, match=r"target has the shape \(3, 21\) of uint8; .* each of the 4 sounds"):
        import_archives("hdf5", [write(tmp_path / "b.h5", TARGETS[:3])], table)
    with pytest.raises(DataError, match=r"no \.h5 or \.hdf or \.hdf5 file; give files that end in"):
        import_archives("hdf5", [names], table)
    assert main(["data", "import", "webdataset", str(file), "-o", str(table), "--classes", str(names)]) == 2
    assert "--classes needs hdf5" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert main(["data", "import", "hdf5", str(file), "-o", str(table)]) == 2
    assert "unheard[hdf5]" in capsys.readouterr().err and not table.exists()
