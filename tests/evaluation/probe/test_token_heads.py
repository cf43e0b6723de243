"""Heads on tokens find what is in single patches, ignore padding, and refuse what they cannot read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import torch

from unheard.api import probe
from unheard.data.label_table import Labels, read_labels
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.job import Options
from unheard.embedding.loading import load
from unheard.errors import ConfigError, DataError
from unheard.evaluation.probe.probe import TOKEN_HEADS, InnerOutputs, ProbeConfig, chosen_heads, probe_embeddings
from unheard.evaluation.probe.steps import Clips
from unheard.evaluation.probe.token_heads import tokens as tokens_module
from unheard.evaluation.probe.token_heads.fit import build_head, token_head
from unheard.evaluation.probe.token_heads.tokens import embed_tokens, refuse_without_tokens
from unheard.evaluation.probe.vectors import by_layer, layer_vectors, scenes

Table = Callable[..., Labels]


def events(clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (n, 2, 6, 16) with one patch of the clip's class at a random place, in both layers; and the classes."""
    rng = np.random.default_rng(0)
    classes, tokens = np.arange(clips) % 3, rng.standard_normal((clips, 2, 6, 16)) * 0.3
    marks = rng.standard_normal((3, 16)) * 2
    tokens[np.arange(clips), :, rng.integers(0, 6, clips)] += marks[classes][:, None]
    return tokens.astype(np.float16), classes


@pytest.mark.parametrize("head", TOKEN_HEADS)
def test_an_event_in_one_patch_is_found_and_a_seed_repeats_the_result(head: str) -> None:
    tokens, classes = events(180)
    fit, held, test = np.arange(90), np.arange(90, 120), np.arange(120, 180)
    clips = Clips(np.eye(3, dtype=np.int64)[classes], fit, test, [(fit, held)], seed=0, multilabel=False)
    found = token_head(tokens, head, clips, prototypes=32)
    assert (found.argmax(axis=1) == classes[test]).mean() > 0.85
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(found, token_head(tokens, head, clips, prototypes=32))


@pytest.mark.parametrize("head", TOKEN_HEADS)
def test_padding_and_the_order_of_patches_change_nothing(head: str) -> None:
    torch.manual_seed(0)
    net = build_head(head, 3, 8, classes=2, prototypes=5).eval()
    tokens = torch.randn(4, 3, 6, 8)
    padded = torch.cat([tokens.flip(2), torch.full((4, 3, 2, 8), torch.nan)], dim=2)
    torch.testing.assert_close(net(padded), net(tokens))
    net(padded).sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in net.parameters())


def test_only_embeddings_with_tokens_have_these_heads(table: Table) -> None:
    tokens, classes = events(90)
    labels = replace(table(classes.tolist()), split=["test" if i >= 60 else "train" for i in range(90)])
    vectors = tokens.mean(axis=2)[:, -1]
    how = ProbeConfig((0,), ("attentive", "knn"), n_resamples=50, curve=False)
    report = probe_embeddings(
        {"model": vectors, "plain": vectors}, labels, how, inner=InnerOutputs(tokens={"model": lambda run: tokens})
    )
    assert {(s.embedding, s.head) for s in report.scores} == {
        ("model", "attentive"),
        ("model", "knn"),
        ("plain", "knn"),
    }
    assert {row.head for row in report.differences} == {"knn"}


def test_tokens_are_the_outputs_of_all_layers_and_long_clips_are_thinned(
    table: Table, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, wav = load("random-tiny"), np.random.default_rng(0).standard_normal(48000).astype(np.float32) * 0.1
    for number, samples in enumerate((8000, 48000)):
        soundfile.write(tmp_path / f"{number}.wav", wav[:samples], 16000)
    labels = replace(table([0, 1]), paths=[tmp_path / "0.wav", tmp_path / "1.wav"])
    monkeypatch.setattr(tokens_module, "MOST_COLUMNS", 5)
    tokens = embed_tokens(model, labels, "tokens")
    bands, dim = model.grid.freq, model.encoder.embed_dim
    assert tokens.shape == (2, model.depth, 5 * bands, dim)
    frames = model.embed(tmp_path / "1.wav").frames
    np.testing.assert_allclose(tokens[1, -1, :bands].ravel(), frames[0], atol=2e-2)
    np.testing.assert_allclose(tokens[1, -1, -bands:].ravel(), frames[-1], atol=2e-2)
    short = len(model.embed(tmp_path / "0.wav").frames) * bands
    assert np.isnan(tokens[0, :, short:]).all() and np.isfinite(tokens[0, :, :short]).all()


def test_too_many_clips_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "MOST_BYTES", 1000)
    assert tokens_module.most_columns(10, 10) == 5
    with pytest.raises(ConfigError, match="use at most 12 clips"):
        tokens_module.most_columns(13, 10)


def test_what_has_no_effect_or_no_tokens_is_refused() -> None:
    assert chosen_heads((), None)[0] == ("linear", "knn", "mlp")
    with pytest.raises(ConfigError, match="heads are linear, knn, mlp, cgp"):
        chosen_heads(("forest",), None)
    with pytest.raises(ConfigError, match="--prototypes has no effect"):
        chosen_heads(("linear",), 10)

    bare = Mock(spec=EmbeddingModel, depth=0, description="hear:panns")
    with pytest.raises(ConfigError, match=r"cgp .*hear:panns has no layers.*linear, knn, mlp"):
        refuse_without_tokens({"model": bare}, ["cgp"], ("linear", "knn", "mlp"))


def test_layers_are_separated_from_bands() -> None:
    model = load("random-tiny")
    rows = np.arange(2.0 * model.depth * model.embedding_size).reshape(2, -1)
    split = by_layer(model, rows)
    assert split.shape == (2, model.depth, model.grid.freq, model.encoder.embed_dim)
    np.testing.assert_array_equal(split[0, 1].ravel(), rows[0, model.embedding_size : 2 * model.embedding_size])


def test_a_probe_with_heads_on_tokens_writes_their_scores(tmp_path: Path) -> None:
    rng, lines = np.random.default_rng(0), ["path,label,split"]
    for number in range(24):
        wav = np.sin(np.arange(8000) * (0.05 + 0.5 * (number % 2))) + 0.1 * rng.standard_normal(8000)
        soundfile.write(tmp_path / f"{number}.wav", wav * 0.3, 16000)
        lines.append(
            f"{tmp_path / f'{number}.wav'},{'high' if number % 2 else 'low'},{'test' if number > 13 else 'train'}"
        )
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    report = probe("random-tiny", tmp_path / "labels.csv", tmp_path / "out", seeds=1, head=("attentive",))
    (model, random) = [score for score in report.scores if score.metric == report.metric]
    assert (model.embedding, random.embedding, model.head) == ("model", "random encoder", "attentive")
    assert model.mean > 0.8 and report.confusion and not report.curve
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The attentive head on frozen embeddings" in page


def test_a_head_on_tokens_without_tokens_is_refused(table: Table) -> None:
    labels = replace(table([0, 1] * 4), split=["train", "train", "test", "test"] * 2)
    with pytest.raises(DataError, match="attentive need tokens"):
        probe_embeddings({"model": np.ones((8, 2))}, labels, ProbeConfig((0,), ("linear", "attentive")))


def test_layers_of_an_encoder_with_several_bands_are_those_of_single_layers(
    hf_model: Callable[[str], Path], stand_in: Path
) -> None:
    model = load(f"hf:{hf_model('audio-spectrogram-transformer')}", "cpu")
    labels = read_labels(stand_in / "sounds/labels.csv")
    found = layer_vectors(model, labels)
    for layer in range(model.depth):
        single = None if layer + 1 == model.depth else layer + 1  # the last one is normalised
        expected = scenes(model, labels, Options(layer=single, frames=False), "")
        np.testing.assert_allclose(found[:, layer], expected, atol=1e-5)
