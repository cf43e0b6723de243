"""A model as a module of sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import unheard

pytest.importorskip("sentence_transformers", reason="pip install 'unheard[sentence-transformers]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # other people's packages warn of their own futures

RATE = 16000


def _sounds(count: int) -> list[tuple[np.ndarray, int]]:
    random = np.random.default_rng(0)
    return [(random.standard_normal(3000 + 20000 * number).astype(np.float32), RATE) for number in range(count)]


def test_encode_equals_embed_in_the_order_of_the_sounds() -> None:
    from sentence_transformers import SentenceTransformer

    from unheard.sentence_transformers import AudioEncoder

    model, sounds = unheard.load("random-tiny"), _sounds(4)
    encoder = SentenceTransformer(modules=[AudioEncoder("random-tiny")])
    rows = encoder.encode([{"array": wav, "sampling_rate": rate} for wav, rate in sounds], batch_size=2)
    expected = np.stack([embedding.scene for embedding in model.embed(sounds)])
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode([wav for wav, _ in sounds]), expected, atol=1e-5)
    assert encoder.similarity(rows, rows).shape == (4, 4)


def test_a_saved_model_is_loaded_again_with_its_layer_and_pool(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from unheard.sentence_transformers import AudioEncoder

    encoder = SentenceTransformer(modules=[AudioEncoder("random-tiny", layer=2, pool="mean+std")])
    sounds = [wav for wav, _ in _sounds(2)]
    rows = encoder.encode(sounds)
    encoder.save(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), trust_remote_code=True)
    np.testing.assert_array_equal(again.encode(sounds), rows)
    assert rows.shape == (2, 1920)
    assert AudioEncoder.load(str(tmp_path / "saved"), "0_AudioEncoder").get_embedding_dimension() == 1920


@pytest.mark.parametrize("layer", [1, 2, [2, 12]])
def test_a_layer_is_that_of_embed(layer: int | list[int]) -> None:
    from unheard.sentence_transformers import AudioEncoder

    encoder, sounds = AudioEncoder("random-tiny", layer=layer), _sounds(2)
    rows = encoder(encoder.preprocess([{"array": wav, "sampling_rate": rate} for wav, rate in sounds]))
    expected = np.stack([each.scene for each in unheard.load("random-tiny").embed(sounds, layer=layer)])
    np.testing.assert_allclose(rows["sentence_embedding"], expected, atol=1e-5)
    assert encoder.get_embedding_dimension() == expected.shape[1]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    from unheard.sentence_transformers import AudioEncoder

    (tmp_path / "0_AudioEncoder").mkdir()
    with pytest.raises(unheard.CheckpointError):
        AudioEncoder.load(str(tmp_path), "0_AudioEncoder")
    with pytest.raises(unheard.AudioError):
        AudioEncoder("random-tiny").preprocess([3])
    with pytest.raises(unheard.ConfigError, match="no single vector"):
        AudioEncoder("random-tiny", pool="none")
