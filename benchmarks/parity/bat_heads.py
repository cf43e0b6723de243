"""Parity of the heads of BAT's probes: logits, losses and gradients on stored features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.parity.compare import Checker
from benchmarks.parity.eat import NETWORK
from unheard.evaluation.probe.token_heads.cgp import ConvexGatedProbe
from unheard.evaluation.probe.token_heads.mixing import LayerMix, norm_linear
from unheard.evaluation.probe.token_heads.prototypes import BinarisedPrototypes
from unheard.model.classification import asymmetric_losses, clip_losses

QUERIES = "VQT is not a head of this library: it adds queries to the encoder"


def compare_heads(check: Checker) -> None:
    """Recompute every head but VQT, and the asymmetric loss of fine-tuning element by element."""
    stored = {key: torch.from_numpy(value) for key, value in check.stored.items()}
    for value in (0, 1):
        flat = stored["asym_logits"].flatten()[:, None]
        found = asymmetric_losses(flat, torch.full_like(flat, float(value))).reshape(stored["asym_logits"].shape)
        check(f"asym_target{value}", found, **NETWORK)
    cls, patches = stored["feature_cls_layers"], stored["feature_patch_layers"]
    columns = patches.transpose(1, 2).flatten(0, 1)  # every time column with its bands as a clip of its own
    frames = len(cls), patches.shape[2], -1
    tokens, last = patches.flatten(2, 3), patches[:, -1]
    _cgp(check, stored, "cgp", lambda head: head(tokens, cls))
    _cgp(check, stored, "cgp_mean", lambda head: head(tokens))
    _cgp(check, stored, "cgp_frames", lambda head: head(columns).reshape(frames))
    _binarised(check, stored, tokens)
    _linear_cgp(check, stored, cls)
    for key, rows in (
        ("linear", cls[:, -1]),
        ("linear_mean", last.mean(dim=(1, 2))),
        ("linear_frames", last.mean(dim=2)),
        ("head2toe", cls.flatten(1)),
    ):
        head = _norm_linear(stored, key, rows.shape[-1])
        _outputs(check, stored, key, head(rows), {})
    check.skip("vqt_logits", QUERIES)
    _losses(check, stored, "vqt", stored["vqt_logits"])
    weights = [key for key in check.stored if "__" in key and "_grad__" not in key]
    check.complete(["asym_logits", "labels", "vqt_queries", *weights, *(k for k in check.stored if "feature_" in k)])


def _cgp(check: Checker, stored: dict[str, Tensor], key: str, logits: Callable[[ConvexGatedProbe], Tensor]) -> None:
    vectors, weight = stored[f"{key}__prototype_vectors"].flatten(1), stored[f"{key}__fc.weight"]
    layers = stored[f"{key}__block_attention"]
    head = ConvexGatedProbe(len(layers), vectors.shape[1], len(weight), len(vectors)).eval()
    named = {
        "prototype_vectors": head.prototypes,
        "block_attention": head.mix.a,
        "fc.weight": head.head.weight,
        "fc.bias": head.head.bias,
    }
    _fill(stored, key, named)
    _outputs(check, stored, key, logits(head), named)


def _binarised(check: Checker, stored: dict[str, Tensor], tokens: Tensor) -> None:
    vectors, weight = stored["protobin__prototype_vectors"].flatten(1), stored["protobin__fc.weight"]
    head = BinarisedPrototypes(vectors.shape[1], len(weight), len(vectors)).eval()
    named = {"prototype_vectors": head.prototypes, "fc.weight": head.head.weight, "fc.bias": head.head.bias}
    _fill(stored, "protobin", named)
    _outputs(check, stored, "protobin", head(tokens), named)


def _linear_cgp(check: Checker, stored: dict[str, Tensor], cls: Tensor) -> None:
    mix, head = LayerMix(cls.shape[1]), _norm_linear(stored, "linear_cgp", cls.shape[2])
    named = {"block_attention": mix.a, **_named(head)}
    _fill(stored, "linear_cgp", named)
    _outputs(check, stored, "linear_cgp", head(mix(cls)), named)


def _norm_linear(stored: dict[str, Tensor], key: str, dim: int) -> nn.Sequential:
    head = norm_linear(dim, len(stored[f"{key}__fc.weight"])).eval()
    _fill(stored, key, _named(head))
    return head


def _named(head: nn.Sequential) -> dict[str, nn.Parameter]:
    ours = dict(head.named_parameters())
    return {
        "ln.weight": ours["0.weight"],
        "ln.bias": ours["0.bias"],
        "fc.weight": ours["2.weight"],
        "fc.bias": ours["2.bias"],
    }


@torch.no_grad()
def _fill(stored: dict[str, Tensor], key: str, named: dict[str, nn.Parameter]) -> None:
    for name, parameter in named.items():
        parameter.copy_(stored[f"{key}__{name}"].reshape(parameter.shape))


def _outputs(
    check: Checker, stored: dict[str, Tensor], key: str, logits: Tensor, named: dict[str, nn.Parameter]
) -> None:
    """Compare logits, losses, and the gradients of the asymmetric loss."""
    check(f"{key}_logits", logits, **NETWORK)
    loss = _losses(check, stored, key, logits)
    if loss is None or f"{key}_grad__fc.bias" not in stored:
        return
    loss.backward()
    for name, parameter in named.items():
        assert parameter.grad is not None
        theirs = f"{key}_grad__{name}"
        check(theirs, parameter.grad.reshape(stored[theirs].shape), **NETWORK)


def _losses(check: Checker, stored: dict[str, Tensor], key: str, logits: Tensor) -> Tensor | None:
    labels = stored["labels"].float()
    if logits.shape != labels.shape:
        return None
    check(f"{key}_bce", clip_losses(logits, labels, True).mean(), **NETWORK)
    loss = asymmetric_losses(logits, labels).mean()
    check(f"{key}_asymmetric_loss", loss, **NETWORK)
    return loss
