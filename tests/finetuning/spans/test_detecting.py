"""Detection in recordings: times, thresholds, errors, resuming, and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.finetuning.spans.made import RATE, ToneClassifier, write_tones

import unheard
from unheard.cli import main
from unheard.errors import AudioError, ConfigError, DataError
from unheard.finetuning.spans.detecting import plan_detection

PARTS = [(3.0, 5.0, "low"), (8.0, 9.0, "high"), (9.0, 11.0, "low")]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "rec.wav", 14.3, PARTS)


def test_times_are_as_exact_as_the_hop(recording: Path) -> None:
    for hop in (0.5, 0.1):
        spans = unheard.detect(ToneClassifier(), recording, hop=hop).spans
        assert [span.label for span in spans] == [name for *_, name in PARTS]
        for span, (start, end, _) in zip(spans, PARTS, strict=True):
            assert abs(span.start - start) <= hop and abs(span.end - end) <= hop
            assert span.score == pytest.approx(1, abs=0.01) and span.path == str(recording)


def test_a_recording_that_is_shorter_than_a_window_is_one_window(tmp_path: Path) -> None:
    spans = unheard.detect(ToneClassifier(), write_tones(tmp_path / "s.wav", 0.3, [(0, 0.3, "low")])).spans
    assert [(span.start, span.end, span.label) for span in spans] == [(0, 0.3, "low")]


@pytest.mark.parametrize("hop", [0.5, 4.0, 1.0])
def test_a_recording_is_as_long_as_its_file(recording: Path, tmp_path: Path, hop: float) -> None:
    rest = write_tones(tmp_path / "rest.wav", 3.006, [(0, 1, "low")])  # 6 ms are no window
    found = unheard.detect(ToneClassifier(), [recording, rest], tmp_path / "out.txt", hop=hop).recordings
    assert [each.seconds for each in found] == [14.3, 3.006]
    rows = (tmp_path / "out.txt").read_text().splitlines()
    assert rows[-1].split("\t")[3] == "14.3"  # times of Raven go on over the files


def test_recordings_are_in_the_order_of_the_files_after_resuming(tmp_path: Path) -> None:
    files = [write_tones(tmp_path / f"{k}.wav", 2.0, [(0, 1, "low")]) for k in range(3)]
    good = files[0].read_bytes()
    files[0].write_bytes(b"no sound")
    assert unheard.detect(ToneClassifier(), files[:2], tmp_path / "out.csv").skipped
    files[0].write_bytes(good)
    found = unheard.detect(ToneClassifier(), files, tmp_path / "out.csv", resume=True)
    assert [each.path for each in found.recordings] == [str(file) for file in files]
    assert len(unheard.detect(ToneClassifier(), files[2:], tmp_path / "out.csv", resume=True).recordings) == 3


def test_every_class_has_its_own_threshold(tmp_path: Path) -> None:
    file = write_tones(tmp_path / "rec.wav", 12.0, [(2.0, 2.4, "high"), (6.0, 6.4, "low")])
    found = unheard.detect(ToneClassifier((0.9, 0.3, 0.45)), file, threshold="auto", hop=0.1)
    assert found.thresholds == {"background": 0.9, "high": 0.3, "low": 0.45} and not found.spans  # background wins
    short = unheard.detect(ToneClassifier((0.9, 0.3, 0.95)), file, threshold="auto", hop=0.1, window=0.5)
    assert {span.label for span in short.spans} == {"high"}


def test_a_class_without_a_threshold_gets_the_default_and_a_note(recording: Path) -> None:
    plan = plan_detection(ToneClassifier(), "auto")
    assert plan.decision.thresholds.tolist() == [0.5, 0.25, 0.5]
    assert plan.notes == ("no validation clip has low; the threshold is 0.5 there",)
    with pytest.raises(ConfigError, match="at most 1, or auto; got 'best'"):
        plan_detection(ToneClassifier(), "best")
    with pytest.raises(ConfigError, match=r"this model has no thresholds: .* give a number"):
        unheard.detect(ToneClassifier(()), recording, threshold="auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, "threshold must be a number above 0, at most 1, or auto; got 0"),
        ({"threshold": float("nan")}, "got nan"),
        ({"window": 0.0}, "window must be at least 0.01 seconds"),
        ({"hop": float("inf")}, "hop must be at least"),
        ({"min_duration": -1.0}, "min_duration must be at least 0"),
        ({"max_gap": float("nan")}, "max_gap must be at least 0"),
        ({"resume": True}, "without an output there is nothing to continue"),
    ],
)
def test_invalid_options_are_refused(recording: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        unheard.detect(ToneClassifier(), recording, **options)  # type: ignore[arg-type]


def test_a_bad_recording_is_named_and_the_others_are_kept(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    wav, _ = soundfile.read(recording)
    wav[round(7 * RATE) :] = np.nan
    soundfile.write(tmp_path / "broken.wav", wav, RATE, subtype="FLOAT")
    files = [tmp_path / "bad.wav", tmp_path / "broken.wav", recording]
    report = unheard.detect(ToneClassifier(), files, tmp_path / "spans.csv")
    assert [Path(path).name for path, _ in report.skipped] == ["bad.wav", "broken.wav"]
    assert len([span for span in report.spans if span.path == str(recording)]) == 3
    with pytest.raises(DataError, match=r"none of the 1 recordings can be read; the first one: .*bad\.wav"):
        unheard.detect(ToneClassifier(), files[:1], tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


def test_windows_that_cannot_be_scored_end_their_recording_only(recording: Path, tmp_path: Path) -> None:
    class Fragile(ToneClassifier):
        def scores(self, windows: Sequence[np.ndarray]) -> np.ndarray:
            if any(np.abs(wav).max() > 0.9 for wav in windows):
                raise AudioError("the vector is not finite")
            return super().scores(windows)

    wav, _ = soundfile.read(recording)
    wav[round(7 * RATE)] = 1.0
    soundfile.write(tmp_path / "loud.wav", wav, RATE, subtype="FLOAT")
    report = unheard.detect(Fragile(), [tmp_path / "loud.wav", recording])
    ((path, reason),) = report.skipped
    assert path == str(tmp_path / "loud.wav")
    assert reason == "6.5 to 7.5 s: the vector is not finite; its detections up to 7 s are kept"
    assert [len(each.spans) for each in report.recordings] == [1, 3]


def test_an_interrupted_job_is_continued(recording: Path, tmp_path: Path) -> None:
    files = [write_tones(tmp_path / f"{k}.wav", 6.0, [(1.0 + k, 2.0 + k, "low")]) for k in range(3)]
    whole = unheard.detect(ToneClassifier(), files, tmp_path / "whole.csv")

    class Counted(ToneClassifier):
        count = 0

        def scores(self, windows: Sequence[np.ndarray]) -> np.ndarray:
            self.count += len(windows)
            return super().scores(windows)

    def stopping(items: Iterable[object], total: int, description: str) -> Iterator[object]:
        for number, item in enumerate(items):
            if number == 140:
                raise KeyboardInterrupt
            yield item

    long = [write_tones(tmp_path / f"long{k}.wav", 40.0, [(1.0 + k, 2.0 + k, "low")]) for k in range(3)]
    with pytest.raises(KeyboardInterrupt):
        unheard.detect(ToneClassifier(), long, tmp_path / "out.csv", track=stopping)
    assert not (tmp_path / "out.csv").exists()
    with pytest.raises(ConfigError, match="has recordings of an interrupted job; continue it with --resume"):
        unheard.detect(ToneClassifier(), long, tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="other settings .*--hop is 0.5, now 0.25"):
        unheard.detect(ToneClassifier(), long, tmp_path / "out.csv", resume=True, hop=0.25)
    with pytest.raises(ConfigError, match=r"\(--threshold is 0.5, now 0.75; --min-duration is 0.0, now 0.3\)"):
        unheard.detect(ToneClassifier(), long, tmp_path / "out.csv", resume=True, threshold=0.75, min_duration=0.3)
    counted = Counted()
    done = unheard.detect(counted, long, tmp_path / "out.csv", resume=True)
    assert done.resumed == 1 and counted.count == 2 * 79
    fresh = unheard.detect(ToneClassifier(), long, tmp_path / "fresh.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "fresh.csv").read_bytes()
    assert done.spans == fresh.spans
    more = unheard.detect(ToneClassifier(), [*files, *long], tmp_path / "out.csv", resume=True)
    assert more.resumed == 3 and sorted(map(str, more.spans)) == sorted(map(str, [*whole.spans, *fresh.spans]))
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("stopped_at", [0, 140])
def test_an_interrupted_replacement_is_continued_without_the_old_recordings(tmp_path: Path, stopped_at: int) -> None:
    def stopping(items: Iterable[object], total: int, description: str) -> Iterator[object]:
        for number, item in enumerate(items):
            if number == stopped_at:
                raise KeyboardInterrupt
            yield item

    old = write_tones(tmp_path / "old.wav", 6.0, [(1.0, 2.0, "low")])
    long = [write_tones(tmp_path / f"long{k}.wav", 40.0, [(1.0 + k, 2.0 + k, "low")]) for k in range(2)]
    unheard.detect(ToneClassifier(), old, tmp_path / "out.csv")
    with pytest.raises(KeyboardInterrupt):
        unheard.detect(ToneClassifier(), long, tmp_path / "out.csv", overwrite=True, track=stopping)
    done = unheard.detect(ToneClassifier(), long, tmp_path / "out.csv", resume=True)
    assert [recording.path for recording in done.recordings] == [str(file) for file in long]
    fresh = unheard.detect(ToneClassifier(), long, tmp_path / "fresh.csv")
    assert done.spans == fresh.spans and not list(tmp_path.glob(".out*"))


def test_an_existing_output_is_refused(recording: Path, tmp_path: Path) -> None:
    unheard.detect(ToneClassifier(), recording, tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="exists; continue it with --resume, replace it with --overwrite"):
        unheard.detect(ToneClassifier(), recording, tmp_path / "out.csv")
    assert len(unheard.detect(ToneClassifier(), recording, tmp_path / "out.csv", overwrite=True).spans) == 3


MEASURE = """
import resource, sys
import unheard
from tests.finetuning.spans.made import ToneClassifier
unheard.detect(ToneClassifier(), sys.argv[1], hop=1.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = unheard.detect(ToneClassifier(), sys.argv[2], hop=1.0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(found.spans), found.recordings[0].seconds)
"""


def test_memory_does_not_grow_with_the_length_of_a_recording(recording: Path, tmp_path: Path) -> None:
    """Two hours are 230 MB of samples."""
    minute = 0.1 * np.sin(2 * np.pi * 400 * np.arange(60 * RATE) / RATE)
    minute[: 30 * RATE] = 0
    with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 1, "PCM_16") as file:
        for _ in range(120):
            file.write(4 * minute)
    place = [str(recording), str(tmp_path / "long.wav")]
    done = subprocess.run([sys.executable, "-c", MEASURE, *place], capture_output=True, text=True, check=True)
    grown, spans, seconds = done.stdout.split()
    assert int(grown) < 60_000 and int(spans) == 120 and float(seconds) == 7200


def test_options_of_detections_need_spans(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "random-tiny", str(recording), "--threshold", "0.5", "--hop", "1", "--resume"]) == 2
    assert "--threshold, --hop can only be given with --spans" in capsys.readouterr().err
    assert main(["predict", "random-tiny", str(recording), "--spans", "--top", "2"]) == 2
    assert "leave them out with --spans" in capsys.readouterr().err
    assert main(["predict", "random-tiny", str(recording), "--spans", "--json"]) == 2
    out, err = capsys.readouterr()
    assert "this model has no classifier" in err and (not out or json.loads(out))


def test_a_tolerance_needs_annotations(recording: Path) -> None:
    with pytest.raises(ConfigError, match="needs annotations"):
        unheard.detect(ToneClassifier(), recording, tolerance=0.2)
