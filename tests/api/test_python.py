"""The library in Python: names, texts, lists with unreadable sounds, devices and classes."""

from __future__ import annotations

import pydoc
from pathlib import Path

import numpy as np
import pytest
import soundfile

import unheard
from unheard import api
from unheard.embedding.classify import by_name
from unheard.errors import AudioError, AudioWarning, ConfigError

NOISE = (np.random.default_rng(0).standard_normal(16000).astype(np.float32), 16000)


@pytest.fixture(scope="module")
def model() -> unheard.Model:
    loaded = unheard.load("random-tiny", device="cpu")
    assert isinstance(loaded, unheard.Model)
    return loaded


def test_help_names_every_verb_before_any_class() -> None:
    text = pydoc.plain(pydoc.render_doc(unheard))
    start = text[: text.index("CLASSES")]
    assert all(f" {verb} " in start for verb in api.__all__)
    assert set(api.__all__) <= set(unheard.__all__)
    assert "negative from the end" in pydoc.plain(pydoc.render_doc(unheard.embed))


def test_texts_of_flags_name_keywords() -> None:
    assert "--" not in (unheard.embed.__doc__ or "").partition("Options\n-------")[2].replace("-------", "")
    assert "With frames, seconds between time steps" in (unheard.embed.__doc__ or "")


def test_repr_says_what_it_is(model: unheard.Model) -> None:
    assert repr(model) == "Model('random-tiny': random-tiny, encoder of 5.4 M parameters, 960 values, 16000 Hz, cpu)"
    assert repr(model.embed(NOISE)) == "Embedding(scene (960,), frames (7, 960), 1 s)"
    assert repr(unheard.Run(Path("runs/a"), 3, 9)) == "Run('runs/a', step 3 of 9, not finished)"
    assert repr(unheard.FinetunedRun(Path("runs/a"), True)) == "FinetunedRun('runs/a', finished)"


def test_a_list_with_an_unreadable_sound(model: unheard.Model, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    with pytest.raises(unheard.AudioError, match="bad.wav"):
        model.embed([NOISE, bad])
    with pytest.warns(AudioWarning, match="bad.wav"):
        found = model.embed([NOISE, bad, NOISE, str(bad)], on_error="skip")
    assert [each is None for each in found] == [False, True, False, True]
    assert found[0] is not None and found[2] is not None
    np.testing.assert_array_equal(found[0].scene, model.embed(NOISE).scene)


def test_skip_is_for_lists(model: unheard.Model) -> None:
    with pytest.raises(ConfigError, match="needs a list"):
        model.embed(NOISE, on_error="skip")  # type: ignore[call-overload]


def test_classes_by_name(model: unheard.Model) -> None:
    scores = by_name(("dog", "rain", "drum"), np.array([0.25, 0.5, 0.25], np.float32))
    assert list(scores.items()) == [("rain", 0.5), ("dog", 0.25), ("drum", 0.25)]
    with pytest.raises(ConfigError, match="has no classifier"):
        model.predict(NOISE)


def test_devices_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match="device 'tpu' is not available here; usable: auto"):
        unheard.load("random-tiny", device="tpu")
    assert unheard.load("random-tiny").device.type in ("cuda", "mps", "cpu")


def test_keywords_of_embed(tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    import soundfile

    soundfile.write(tmp_path / "a.wav", NOISE[0], NOISE[1])
    report = unheard.embed("random-tiny", tmp_path / "a.wav", out, layer=-2, pool="max", window=0.5, device="cpu")
    assert report.rows == 2
    with pytest.raises(ConfigError, match="and not both"):
        unheard.embed("random-tiny", None, tmp_path / "b.npz")
    with pytest.raises(ConfigError, match="--epochs and --steps exclude each other"):
        unheard.pretrain(tmp_path, tmp_path / "run", epochs=1, steps=2)
    with pytest.raises(ConfigError, match=r"training\.epochs and training\.steps exclude each other"):
        unheard.pretrain(tmp_path, tmp_path / "run", epochs=1, settings=["training.steps=2"])
    with pytest.raises(ConfigError, match="forbids executing"):
        unheard.pretrain(tmp_path, tmp_path / "run", "mine.py", no_code=True)


def test_embed_stops_at_the_first_unreadable_sound_and_keeps_rows(tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    for name in ("a", "c"):
        soundfile.write(tmp_path / "sounds" / f"{name}.wav", np.full(16000, 0.1), 16000)
    (tmp_path / "sounds" / "b.wav").write_text("no sound")
    (tmp_path / "parts.csv").write_text("path,start,end\nsounds/a.wav,0,0.5\nsounds/b.wav,0,0.5\n")
    model, sounds = unheard.load("random-tiny", device="cpu"), tmp_path / "sounds"
    for number, options in enumerate(({}, {"window": 0.5}, {"segments": tmp_path / "parts.csv"})):
        out, audio = tmp_path / f"{number}.npz", None if "segments" in options else sounds
        with pytest.raises(AudioError, match=r"b\.wav"):
            unheard.embed(model, audio, out, on_error="raise", **options)
        assert not out.exists()
        report = unheard.embed(model, audio, out, resume=True, **options)
        assert [Path(path).name for path, _ in report.skipped] == ["b.wav"]


def test_embed_does_not_change_a_loaded_model(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(16000, 0.1), 16000)
    model = unheard.load("random-tiny", device="cpu")
    model.set_speed(workers=1, batch_size=3)
    unheard.embed(model, tmp_path / "a.wav", tmp_path / "x.npz", workers=0, batch_size=5)
    unheard.embed(model, tmp_path / "a.wav", tmp_path / "z.npz", workers="auto", batch_size="auto")
    assert (model.workers, model.batch_size) == (1, 3)
    with pytest.raises(ConfigError, match="batch_size must be at least 1; got 0"):
        unheard.embed(model, tmp_path / "a.wav", tmp_path / "y.npz", batch_size=0)
    with pytest.raises(ConfigError, match="the model is loaded in float32"):
        unheard.embed(model, tmp_path / "a.wav", tmp_path / "y.npz", precision="bf16")
