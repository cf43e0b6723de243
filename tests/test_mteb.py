"""Models of this library as encoders of mteb."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

import unheard

pytest.importorskip("mteb", reason="pip install 'unheard[mteb]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # other people's packages warn of their own futures

RATE = 16000


def _tones(count: int) -> list[dict[str, Any]]:
    """Return tones of four pitches and three durations, in the columns of mteb's data sets."""
    random, rows = np.random.default_rng(0), []
    for number in range(count):
        size = 8000 * (1 + number % 3)
        tone = np.sin(2 * np.pi * 200 * 2 ** (number % 4) * np.arange(size) / RATE)
        wav = (tone + 0.05 * random.standard_normal(size)).astype(np.float32)
        rows.append({"audio": {"array": wav, "sampling_rate": RATE}, "label": number % 4})
    return rows


def test_encode_gives_the_vectors_of_embed_in_order() -> None:
    from unheard.mteb import load

    rows = _tones(7)
    found = load("random-tiny").encode(DataLoader(rows, batch_size=3))  # type: ignore[arg-type]
    sounds = [(row["audio"]["array"], RATE) for row in rows]
    expected = np.stack([each.scene for each in unheard.load("random-tiny").embed(sounds)])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_tasks_of_text_and_wrong_names_are_refused() -> None:
    from unheard.mteb import load, model_meta

    encoder = load("random-tiny")
    with pytest.raises(unheard.ConfigError, match="no text side"):
        encoder.encode(DataLoader([{"text": "rain"}]))  # type: ignore[arg-type]
    with pytest.raises(unheard.ConfigError, match="organisation/model"):
        model_meta("random-tiny", "random-tiny")


def test_mteb_evaluates_a_model() -> None:
    import mteb
    from datasets import Dataset, DatasetDict
    from mteb.tasks.classification.zxx.beijing_opera import BeijingOpera

    from unheard.mteb import load

    class Tones(BeijingOpera):  # type: ignore[misc]
        metadata = BeijingOpera.metadata.model_copy(update={"name": "Tones"})

        def load_data(self, *others: Any, **more: Any) -> None:
            self.dataset = DatasetDict({"train": Dataset.from_list(_tones(60))})
            self.data_loaded = True

    model = load("random-tiny", training_datasets=[])
    results = mteb.evaluate(model, tasks=[Tones()], cache=None)
    assert results.task_results[0].get_score() > 0.9
    assert model.mteb_model_meta is not None and model.mteb_model_meta.training_datasets == set()
