"""Pooling, normalisation and scores of a classifier."""

from __future__ import annotations

import pytest
import torch

from unheard.config import from_json, to_json
from unheard.errors import ConfigError
from unheard.model.classifier import Classifier, ClassifierConfig

LABELS = ("dog", "rain", "snare")


def made(config: ClassifierConfig) -> Classifier:
    torch.manual_seed(0)
    classifier = Classifier(config, 8).eval()
    with torch.no_grad():
        classifier.head.weight.normal_()
        classifier.head.bias.normal_()
    return classifier


def test_the_mean_of_tokens_is_normalised_and_weighed() -> None:
    classifier = made(ClassifierConfig(LABELS))
    tokens = torch.randn(2, 5, 8)
    mean = tokens.double().mean(dim=1)
    normal = (mean - mean.mean(dim=1, keepdim=True)) / (mean.var(dim=1, correction=0, keepdim=True) + 1e-6).sqrt()
    expected = normal @ classifier.head.weight.double().T + classifier.head.bias.double()
    assert torch.allclose(classifier(classifier.pool(tokens)).double(), expected, atol=1e-5)


def test_batch_norm_uses_the_statistics_it_learned() -> None:
    classifier = made(ClassifierConfig(LABELS, norm="batch"))
    assert isinstance(classifier.norm, torch.nn.BatchNorm1d) and classifier.norm.running_mean is not None
    classifier.norm.running_mean.fill_(0.5)
    tokens = torch.randn(2, 5, 8)
    expected = classifier.head((tokens.mean(dim=1) - 0.5) / (1 + 1e-5) ** 0.5)
    assert torch.allclose(classifier(classifier.pool(tokens)), expected, atol=1e-6)


def test_the_cls_token_alone() -> None:
    classifier = made(ClassifierConfig(LABELS, pool="cls", norm="none"))
    tokens, cls = torch.randn(2, 5, 8), torch.randn(2, 8)
    assert torch.equal(classifier(classifier.pool(tokens, cls)), classifier.head(cls))
    with pytest.raises(ConfigError, match="CLS token"):
        classifier.pool(tokens)


def test_scores_are_one_class_or_many() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0]])
    assert torch.allclose(made(ClassifierConfig(LABELS)).scores(logits).sum(), torch.tensor(1.0))
    assert torch.allclose(made(ClassifierConfig(LABELS, "sigmoid")).scores(logits), 1 / (1 + torch.exp(-logits)))


def test_labels_survive_json_and_are_needed() -> None:
    config = ClassifierConfig(LABELS, "sigmoid", "cls", "batch")
    assert from_json(ClassifierConfig, to_json(config)) == config
    with pytest.raises(ConfigError, match="labels"):
        from_json(ClassifierConfig, {"labels": []})
