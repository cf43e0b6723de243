"""Public data sets in miniature, in the layout of their archives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.cli import main
from unheard.data.label_table import read_labels
from unheard.data.partitions import partitions
from unheard.data.tables import read_csv
from unheard.datasets.layouts import LAYOUTS, import_labels
from unheard.errors import ConfigError, DataError


def sound(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".mp3":
            path.write_bytes(b"x")  # an import looks at names only
        else:
            soundfile.write(path, np.zeros(80, np.float32), 16000)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def audioset(root: Path) -> None:
    head = (
        "# Segments csv created Sun Mar  5 10:54:31 2017",
        "# num_ytids=2, num_segs=2",
        "# YTID, start_seconds, end_seconds, positive_labels",
    )
    text(
        root / "class_labels_indices.csv",
        "index,mid,display_name",
        '0,/m/09x0r,"Speech"',
        '1,/m/05zppz,"Male speech, man speaking"',
    )
    text(
        root / "balanced_train_segments.csv",
        *head,
        '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/m/05zppz"',
        'gone_gone__, 0.000, 10.000, "/m/09x0r"',
    )
    text(root / "unbalanced_train_segments.csv", *head, 'Yabcdefghi0, 0.000, 10.000, "/m/05zppz"')
    text(root / "eval_segments.csv", *head, '-0SdAVK79lg, 0.000, 10.000, "/m/09x0r"')
    sound(
        root / "audios/balanced/Y--PJHxphWEs.wav",
        root / "audios/part00/Yabcdefghi0_0_10000.flac",
        root / "audios/eval/-0SdAVK79lg.wav",
    )
    sound(root / "audios/eval/somebodyelses.wav")


def esc50(root: Path) -> None:
    names = [f"{fold}-{100 + fold}-A-{target}.wav" for fold in (1, 2) for target in (0, 1)]
    rows = [f"{name},{name[0]},{name[-5]},{('dog', 'rooster')[int(name[-5])]},True,10{name[0]},A" for name in names]
    text(root / "ESC-50-master/meta/esc50.csv", "filename,fold,target,category,esc10,src_file,take", *rows)
    sound(*(root / "ESC-50-master/audio" / name for name in names))


def us8k(root: Path) -> None:
    rows = ["7061-6-0-0.wav,7061,0.0,4.0,1,1,6,gun_shot", "7062-3-0-0.wav,7062,0.0,4.0,1,2,3,dog_bark"]
    text(root / "metadata/UrbanSound8K.csv", "slice_file_name,fsID,start,end,salience,fold,classID,class", *rows)
    sound(root / "audio/fold1/7061-6-0-0.wav", root / "audio/fold2/7062-3-0-0.wav")


def speech_commands(root: Path, words: tuple[str, ...]) -> None:
    sound(*(root / word / f"{speaker}_nohash_0.wav" for word in words for speaker in ("aaaa", "bbbb", "cccc")))
    sound(root / "_background_noise_/pink_noise.wav")
    text(root / "validation_list.txt", *(f"{word}/bbbb_nohash_0.wav" for word in words))
    text(root / "testing_list.txt", *(f"{word}/cccc_nohash_0.wav" for word in words))


def fsd50k(root: Path) -> None:
    text(
        root / "FSD50K.ground_truth/dev.csv",
        "fname,labels,mids,split",
        '1,"Bark,Dog","/m/1,/m/2",train',
        "2,Rain,/m/3,val",
    )
    text(root / "FSD50K.ground_truth/eval.csv", "fname,labels,mids", "3,Rain,/m/3")
    sound(root / "FSD50K.dev_audio/1.wav", root / "FSD50K.dev_audio/2.wav", root / "FSD50K.eval_audio/3.wav")


def dcase2019(root: Path) -> None:
    root = root / "TAU-urban-acoustic-scenes-2019-development"
    names = [
        f"audio/{scene}-{city}-0-0-a.wav" for scene in ("airport", "bus") for city in ("lisbon", "milan", "vienna")
    ]
    rows = ["\t".join((name, name[6:].split("-")[0], name.split("-")[1] + "-0", "a")) for name in names]
    text(root / "meta.csv", "filename\tscene_label\tidentifier\tsource_label", *rows)
    for part, city in (("train", "lisbon"), ("evaluate", "vienna")):
        listed = [f"{name}\t{name[6:].split('-')[0]}" for name in names if city in name]
        text(root / f"evaluation_setup/fold1_{part}.csv", "filename\tscene_label", *listed)
    sound(*(root / name for name in names))


def openmic(root: Path) -> None:
    root = root / "openmic-2018"
    rows = [
        "000046_3840,clarinet,0.17105,3",
        "000046_3840,flute,0.9,3",
        "000135_483840,flute,0.2,3",
        "000135_483840,drums,1.0,3",
    ]
    text(root / "openmic-2018-aggregated-labels.csv", "sample_key,instrument,relevance,num_responses", *rows)
    text(root / "partitions/split01_train.csv", "000046_3840")
    text(root / "partitions/split01_test.csv", "000135_483840")
    sound(root / "audio/000/000046_3840.ogg", root / "audio/000/000135_483840.ogg")


def nsynth(root: Path) -> None:
    for side, program in (("train", 1), ("valid", 2), ("test", 3)):
        found = {}
        for family, pitch in (("bass", 24), ("organ", 60)):
            instrument = f"{family}_synthetic_{program:03d}"
            name = f"{instrument}-{pitch:03d}-100"
            found[name] = {
                "pitch": pitch,
                "instrument_family_str": family,
                "instrument_str": instrument,
                "velocity": 100,
            }
            sound(root / f"nsynth-{side}/audio/{name}.wav")
        text(root / f"nsynth-{side}/examples.json", json.dumps(found))


def gtzan(root: Path) -> None:
    for genre in ("blues", "jazz"):
        sound(*(root / f"genres_original/{genre}/{genre}.{number:05d}.wav" for number in (0, 11, 99)))


def magnatagatune(root: Path) -> None:
    rows = [
        "2\t1\t0\tf/bach-02-air-30-59.mp3",
        "3\t0\t1\t0/bach-02-rock-0-29.mp3",
        "4\t1\t1\tc/drums-1-2.mp3",
        "5\t0\t0\t1/none-0-29.mp3",
    ]
    text(root / "annotations_final.csv", "clip_id\tclassical\tno voice\tmp3_path", *rows, "6\t1\t0\t6/empty-0-29.mp3")
    names = ("f/bach-02-air-30-59.mp3", "0/bach-02-rock-0-29.mp3", "c/drums-1-2.mp3", "1/none-0-29.mp3")
    sound(*(root / "mp3" / name for name in names))
    (root / "mp3/6").mkdir()
    (root / "mp3/6/empty-0-29.mp3").touch()


BUILD: dict[str, Callable[[Path], None]] = {
    "audioset": audioset,
    "audioset-20k": audioset,
    "esc50": esc50,
    "us8k": us8k,
    "speech-commands-v1": lambda root: speech_commands(root, ("bed", "yes")),
    "speech-commands-v2": lambda root: speech_commands(root, ("backward", "yes")),
    "fsd50k": fsd50k,
    "dcase2019-task1a": dcase2019,
    "openmic": openmic,
    "nsynth": nsynth,
    "nsynth-pitch": nsynth,
    "gtzan": gtzan,
    "magnatagatune": magnatagatune,
}
EXPECTED = {  # by name of the file: label, split, fold, group, known
    "audioset": {
        "Y--PJHxphWEs": ("Speech|Male speech, man speaking", "train"),
        "Yabcdefghi0_0_10000": ("Male speech, man speaking", "train"),
        "-0SdAVK79lg": ("Speech", "test"),
    },
    "audioset-20k": {"Y--PJHxphWEs": ("Speech|Male speech, man speaking", "train"), "-0SdAVK79lg": ("Speech", "test")},
    "esc50": {
        **{"1-101-A-0": ("dog", "", "1", "101"), "1-101-A-1": ("rooster", "", "1", "101")},
        **{"2-102-A-0": ("dog", "", "2", "102"), "2-102-A-1": ("rooster", "", "2", "102")},
    },
    "us8k": {"7061-6-0-0": ("gun_shot", "", "1", "7061"), "7062-3-0-0": ("dog_bark", "", "2", "7062")},
    "fsd50k": {"1": ("Bark|Dog", "train"), "2": ("Rain", "valid"), "3": ("Rain", "test")},
    "dcase2019-task1a": {
        "airport-lisbon-0-0-a": ("airport", "train", "", "lisbon-0"),
        "bus-lisbon-0-0-a": ("bus", "train", "", "lisbon-0"),
        "airport-vienna-0-0-a": ("airport", "test", "", "vienna-0"),
        "bus-vienna-0-0-a": ("bus", "test", "", "vienna-0"),
    },
    "openmic": {
        "000046_3840": ("flute", "train", "", "", "clarinet|flute"),
        "000135_483840": ("drums", "test", "", "", "drums|flute"),
    },
    "magnatagatune": {
        "bach-02-air-30-59": ("classical", "test", "", "bach-02-air"),
        "bach-02-rock-0-29": ("no voice", "train", "", "bach-02-rock"),
        "drums-1-2": ("classical|no voice", "valid", "", "drums"),
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_labels_and_sides_are_those_of_the_data_set(tmp_path: Path, name: str) -> None:
    BUILD[name](tmp_path / "data")
    report = import_labels(name, tmp_path / "data", tmp_path / "tables/labels.csv")
    rows = read_csv(report.table, ("path", "label"))
    found = {
        Path(row["path"]).stem: tuple(row.get(key, "") for key in ("label", "split", "fold", "group", "known"))
        for row in rows
    }
    assert found == {stem: (*values, *("",) * (5 - len(values))) for stem, values in EXPECTED[name].items()}
    assert all((report.table.parent / row["path"]).is_file() for row in rows)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_table_can_be_read_by_a_probe(tmp_path: Path, name: str) -> None:
    BUILD[name](tmp_path / "data")
    report = import_labels(name, tmp_path / "data", tmp_path / "labels.csv")
    labels = read_labels(report.table)
    assert len(labels) == report.clips == sum(report.sides.values())
    assert len(labels.classes) == report.classes
    assert labels.multilabel == (name in ("audioset", "audioset-20k", "fsd50k", "magnatagatune", "openmic"))
    if name in (
        "esc50",
        "speech-commands-v1",
        "speech-commands-v2",
        "dcase2019-task1a",
        "nsynth",
        "nsynth-pitch",
        "gtzan",
    ):
        for train, _, test in partitions(labels, seed=0):
            assert len(train) and len(test)


def test_a_table_behind_a_link_names_its_sounds(tmp_path: Path) -> None:
    esc50(tmp_path / "data")
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far/away")
    labels = read_labels(import_labels("esc50", tmp_path / "data", tmp_path / "near/labels.csv").table)
    assert all(path.is_file() for path in labels.paths)


def test_spoken_words_keep_their_lists(tmp_path: Path) -> None:
    BUILD["speech-commands-v1"](tmp_path)
    rows = read_csv(import_labels("speech-commands-v1", tmp_path, tmp_path / "labels.csv").table, ("path", "label"))
    assert {(row["label"], row["group"], row["split"]) for row in rows} == {
        (word, speaker, split)
        for word in ("bed", "yes")
        for speaker, split in (("aaaa", "train"), ("bbbb", "valid"), ("cccc", "test"))
    }
    BUILD["speech-commands-v2"](tmp_path)
    with pytest.raises(DataError, match="import it as speech-commands-v2"):
        import_labels("speech-commands-v1", tmp_path, tmp_path / "labels.csv")


def test_notes_are_labelled_by_instrument_or_pitch(tmp_path: Path) -> None:
    nsynth(tmp_path)
    for name, classes in (("nsynth", {"bass", "organ"}), ("nsynth-pitch", {"24", "60"})):
        rows = read_csv(import_labels(name, tmp_path, tmp_path / "labels.csv").table, ("path", "label"))
        assert {row["label"] for row in rows} == classes
        assert {(row["split"], row["group"]) for row in rows if row["split"] == "test"} == {
            ("test", "bass_synthetic_003"),
            ("test", "organ_synthetic_003"),
        }


def test_genres_have_folds_or_the_filtered_lists(tmp_path: Path) -> None:
    gtzan(tmp_path)
    assert import_labels("gtzan", tmp_path, tmp_path / "labels.csv").sides == {"0": 2, "1": 2, "9": 2}
    for side, number in (("train", 0), ("valid", 11), ("test", 99)):
        text(tmp_path / f"{side}_filtered.txt", *(f"{genre}/{genre}.{number:05d}.wav" for genre in ("blues", "jazz")))
    assert import_labels("gtzan", tmp_path, tmp_path / "labels.csv").sides == {"test": 2, "train": 2, "valid": 2}


def test_sounds_that_are_gone_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audioset(tmp_path)
    line = ["data", "import", "audioset-20k", str(tmp_path), "-o", str(tmp_path / "labels.csv")]
    assert main([*line, "--strict"]) == 1
    assert "1 clips left out, their file is missing: gone_gone__.wav" in capsys.readouterr().out
    assert main(line) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_wrong_folders_get_the_expected_layout(tmp_path: Path) -> None:
    for name in LAYOUTS:
        with pytest.raises(DataError, match=r"does not hold .*; expected there: "):
            import_labels(name, tmp_path, tmp_path / "labels.csv")
    with pytest.raises(DataError, match="no such folder"):
        import_labels("esc50", tmp_path / "nowhere", tmp_path / "labels.csv")
    with pytest.raises(ConfigError, match="there is no layout 'esc-50'; choose one of audioset"):
        import_labels("esc-50", tmp_path, tmp_path / "labels.csv")
    text(tmp_path / "meta/esc50.csv", "file,fold", "a.wav,1")
    (tmp_path / "audio").mkdir()
    with pytest.raises(DataError, match="lacks the column filename; it has file, fold"):
        import_labels("esc50", tmp_path, tmp_path / "labels.csv")
    text(tmp_path / "meta/esc50.csv", "filename,fold,target,category,esc10,src_file,take", "a.wav,1,0,dog,True,1,A")
    with pytest.raises(DataError, match=r"holds no sound file of esc50: the tables name 1 clips, such as audio/a\.wav"):
        import_labels("esc50", tmp_path, tmp_path / "labels.csv")
