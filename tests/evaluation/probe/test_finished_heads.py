"""A probe that was interrupted does not train finished heads again, and ends with the same report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unheard.data.label_table import Labels
from unheard.evaluation.probe import linear, probe
from unheard.evaluation.probe.probe import ProbeConfig, probe_embeddings

Table, Clouds = Callable[..., Labels], Callable[..., np.ndarray]
HOW = ProbeConfig(seeds=(0, 1), n_resamples=50, C=0.03)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Number of calls of each head; with "limit", the MLP fails after that many."""
    counts: Counter[str] = Counter()
    for module, name in ((probe, "knn"), (probe, "mlp"), (linear, "logistic_regression")):

        def counted(*given: Any, train: Callable[..., Any] = getattr(module, name), name: str = name) -> Any:
            counts[name] += 1
            if name == "mlp" and counts["mlp"] == counts["limit"]:
                raise KeyboardInterrupt
            return train(*given)

        monkeypatch.setattr(module, name, counted)
    return counts


def made(table: Table, clouds: Clouds) -> tuple[Mapping[str, np.ndarray], Labels]:
    classes = [i % 2 for i in range(40)]
    labels = replace(table(classes), fold=[str(i // 2 % 2) for i in range(40)])
    return {"x": clouds(classes, 0.5), "y": clouds(classes, 0.2)}, labels


def test_an_interrupted_probe_continues(table: Table, clouds: Clouds, trained: Counter[str], tmp_path: Path) -> None:
    embeddings, labels = made(table, clouds)
    whole = probe_embeddings(embeddings, labels, HOW)
    needed = Counter(trained)
    kept = replace(HOW, finished=tmp_path / "heads")
    trained.clear()
    trained["limit"] = needed["mlp"]  # the last fit of the second embedding
    with pytest.raises(KeyboardInterrupt):
        probe_embeddings(embeddings, labels, kept)
    assert list((tmp_path / "heads").glob("*.npy"))
    done = Counter(trained)
    trained.pop("limit")
    report = probe_embeddings(embeddings, labels, kept)
    assert trained["knn"] == done["knn"] == needed["knn"]
    assert trained["mlp"] - done["mlp"] == needed["mlp"] // 2  # those of one embedding
    assert trained["logistic_regression"] == needed["logistic_regression"]  # the curve had not begun
    assert replace(report, warnings=[]) == replace(whole, warnings=[]) and report.scores == whole.scores
    assert not (tmp_path / "heads").exists()


def test_other_vectors_targets_or_options_are_trained_again(
    table: Table, clouds: Clouds, trained: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, labels = made(table, clouds)
    monkeypatch.setattr("unheard.evaluation.probe.cache.FinishedHeads.clear", lambda self: None)
    kept = replace(HOW, finished=tmp_path / "heads", heads=("knn",), curve=False)
    probe_embeddings(embeddings, labels, kept)
    first = trained["knn"]
    probe_embeddings(embeddings, labels, kept)
    assert trained["knn"] == first
    probe_embeddings({name: vectors + 0.1 for name, vectors in embeddings.items()}, labels, kept)
    assert trained["knn"] == 2 * first
    probe_embeddings(embeddings, replace(labels, fold=labels.fold[1:] + labels.fold[:1]), kept)
    assert trained["knn"] == 3 * first
