"""Uploads and files of the folder: what is served, and what is refused."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.serving.conftest import RATE, SMALL, Served, encoded, serve, tone

from unheard.errors import DataError
from unheard.serving.library import Library
from unheard.serving.limits import Limits
from unheard.serving.workbench import Workbench


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_an_upload_is_decoded_and_given_back(served: Served, kind: str) -> None:
    sound = served.upload(tone(440, 1.5), f"tone.{kind.lower()}", kind)
    wav, rate = soundfile.read(io.BytesIO(served.client.get(f"/api/sounds/{sound}/audio").content))
    assert rate == RATE and len(wav) == pytest.approx(1.5 * RATE, abs=1200)
    spectrum = np.abs(np.fft.rfft(wav[:RATE]))
    assert spectrum.argmax() == pytest.approx(440, abs=2)
    part = served.client.get(f"/api/sounds/{sound}/audio?start=0.5&seconds=0.25").content
    assert len(soundfile.read(io.BytesIO(part))[0]) == pytest.approx(0.25 * RATE, abs=2)


def test_uploads_leave_no_file(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for content in (encoded(tone(440, 3.0)), encoded(tone(440))[:20_000], b"", b"no sound"):
        served.client.post("/api/sounds?name=a.wav", content=content)
    assert not list(tmp_path.iterdir()) and len(list(Path("/proc/self/fd").iterdir())) <= descriptors


def test_a_truncated_upload_is_used_as_far_as_it_goes(served: Served) -> None:
    response = served.client.post("/api/sounds?name=cut.wav", content=encoded(tone(440, 2.0))[:40_000])
    assert response.status_code == 201 and "truncated" in response.json()["note"]
    assert response.json()["seconds"] == pytest.approx((40_000 - 44) / 2 / RATE, abs=0.01)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<html></html>", "not a sound file"),
        (encoded(np.zeros((100, 17), np.float32)), "17 channels"),
        (encoded(np.zeros(100, np.float32), rate=400_000), "400000 Hz"),
        (encoded(np.zeros(100, np.float32))[:44], "it holds 0"),
    ],
)
def test_uploads_that_are_no_sound_are_named(served: Served, content: bytes, message: str) -> None:
    response = served.client.post("/api/sounds?name=what.wav", content=content)
    assert response.status_code == 422 and message in response.json()["detail"]
    assert response.json()["detail"].startswith("what.wav") and "/proc" not in response.text


def test_too_many_bytes_and_too_many_seconds(served: Served) -> None:
    response = served.client.post("/api/sounds", content=bytes(SMALL.upload_bytes + 1))
    assert response.status_code == 413
    chunks = (bytes(50_000) for _ in range(20))  # no length is declared
    assert served.client.post("/api/sounds", content=chunks).status_code == 413
    silence = encoded(np.zeros(20 * RATE, np.int16), "FLAC")
    response = served.client.post("/api/sounds?name=bomb.flac", content=silence)
    assert len(silence) < SMALL.upload_bytes
    assert response.status_code == 413 and "longer than 8 s" in response.json()["detail"]


def test_a_header_that_declares_hours_is_no_problem(served: Served) -> None:
    lied = bytearray(encoded(tone(300, 0.5)))
    lied[40:44] = struct.pack("<I", 2**31)
    response = served.client.post("/api/sounds?name=long.wav", content=bytes(lied))
    assert response.status_code == 201 and response.json()["seconds"] == pytest.approx(0.5, abs=0.01)


def test_old_uploads_are_dropped_when_memory_is_full(served_model) -> None:
    second = RATE * 4
    served = serve(Workbench(served_model, None, Limits(held_bytes=3 * second)))
    ids = [served.upload(tone(300 + number)) for number in range(4)]
    status = [served.client.get(f"/api/sounds/{sound}/window").status_code for sound in ids]
    assert status == [404, 200, 200, 200]
    assert served.client.delete(f"/api/sounds/{ids[3]}").status_code == 204
    assert served.client.get(f"/api/sounds/{ids[3]}/window").status_code == 404


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.wav", "..%2Fsecret.wav", "%2e%2e%2fsecret.wav", "/etc/passwd", "%2Fetc%2Fpasswd", "link.wav"),
        *("low%2Flow%2000.wav", "..%5Csecret.wav", "%00", "f0000000000000000", "%F0%9F%8E%B5", "u0000"),
    ],
)
def test_files_are_served_by_id_only(served: Served, name: str) -> None:
    for what in ("audio", "window"):
        response = served.client.get(f"/api/sounds/{name}/{what}")
        assert response.status_code == 404 and b"RIFF" not in response.content
    response = served.client.post("/api/reconstruct", json={"sound": name})
    assert response.status_code == 404


@pytest.mark.parametrize("path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page//etc/passwd"])
def test_the_page_folder_is_not_left(served: Served, path: str) -> None:
    assert served.client.get(path).status_code == 404


def test_links_that_lead_outside_are_refused_also_later(served_model, tmp_path: Path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    soundfile.write(folder / "a.wav", tone(200), RATE)
    soundfile.write(tmp_path / "secret.wav", tone(300), RATE)
    (folder / "out.wav").symlink_to(tmp_path / "secret.wav")
    (folder / "in.wav").symlink_to(folder / "a.wav")
    served = serve(Workbench(served_model, Library(folder)))
    assert set(served.ids()) == {"a.wav", "in.wav"}
    sound = served.ids()["a.wav"]
    (folder / "a.wav").unlink()
    (folder / "a.wav").symlink_to(tmp_path / "secret.wav")
    assert served.client.get(f"/api/sounds/{sound}/audio").status_code == 404


def test_a_folder_without_sounds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no audio in"):
        Library(tmp_path)


def test_files_are_listed_in_pages(served: Served) -> None:
    page = served.client.get("/api/files?contains=HIGH&offset=10&limit=5").json()
    assert page["total"] == 12 and [file["name"] for file in page["files"]] == ["high/high 10.wav", "high/high 11.wav"]
    assert page["files"][0]["folder"] == "high"
