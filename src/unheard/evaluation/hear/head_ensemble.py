"""Heads of one shape, trained on the same batches: as one batched model on an accelerator, one by one on a CPU.

In the batched model, the first layers of K heads are one layer that is K times as wide, and each later layer is one
batched product. An accelerator then runs few large operations instead of many small ones; only dropout masks are
computed head by head. On a CPU, the activations of one head fit into the cache and those of K heads do not, so that
training the heads in turn is faster (docs/performance.md). With the same dropout masks, both give the same weights up
to rounding. An accelerator generates its own masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import stack_module_state
from torch.nn import functional as F

from unheard.evaluation.head_training import HeadTrainer
from unheard.evaluation.hear.fit import predict, snapshot
from unheard.evaluation.hear.head import EPSILON, Head, HyperParams, loss_of

BETAS, ADAM_EPS = (0.9, 0.999), 1e-8  # torch's and heareval's defaults of Adam
MOMENTUM = 0.1  # torch's and heareval's default of BatchNorm1d

Inputs = Float[Tensor, "B D"]
Targets = Float[Tensor, "B C"]
DropoutMask = Callable[[Float[Tensor, "B H"]], Float[Tensor, "B H"]]
"""Function that returns the factors of dropout: 0 where a value is dropped, 1 / (1 - p) elsewhere."""


@runtime_checkable
class HeadEnsemble(Protocol):
    """Heads in training; finished ones are removed."""

    def step(self, x: Inputs, y: Targets, multilabel: bool) -> None:
        """Train every head on one batch."""
        ...

    def predict(self, x: Float[Tensor, "n D"], batch_size: int) -> list[Float[Tensor, "n C"]]:
        """Return the logits of every head, on the CPU."""
        ...

    def state(self, place: int) -> dict[str, Tensor]:
        """Return a copy of the weights of one head, on the CPU."""
        ...

    def select(self, places: Sequence[int]) -> None:
        """Keep only these heads."""
        ...


def make_ensemble(
    heads: Sequence[Head], hypers: Sequence[HyperParams], seeds: Sequence[int], device: torch.device
) -> HeadEnsemble:
    """Return the fastest ensemble on a device; each head has its own learning rate and dropout masks."""
    rates = [hyper.lr for hyper in hypers]
    if device.type == "cpu":
        return SequentialHeads(
            heads, rates, [fast_dropout(hyper.dropout, seed) for hyper, seed in zip(hypers, seeds, strict=True)]
        )
    generators = [
        torch.Generator(device).manual_seed(seed) if hyper.dropout else None
        for hyper, seed in zip(hypers, seeds, strict=True)
    ]
    masks = [torch_dropout(hyper.dropout, generator) for hyper, generator in zip(hypers, generators, strict=True)]
    return BatchedHeads(heads, rates, masks, device)


def torch_dropout(probability: float, generator: torch.Generator | None = None) -> DropoutMask | None:
    """Return a function that generates dropout masks with torch; None for probability 0."""
    if not probability:
        return None
    return lambda z: torch.empty_like(z).bernoulli_(1 - probability, generator=generator).div_(1 - probability)


def fast_dropout(probability: float, seed: int) -> DropoutMask | None:
    """Return a function that generates dropout masks with its own generator; None for probability 0.

    Each value uses sixteen random bits, which takes a third of torch's time on a CPU.
    """
    if not probability:
        return None
    generator, border, scale = (
        np.random.Generator(np.random.SFC64(seed)),
        round(probability * 2**16) - 2**15,
        1 / (1 - probability),
    )

    def mask(z: Float[Tensor, "B H"]) -> Float[Tensor, "B H"]:
        bits = generator.integers(-(2**15), 2**15, z.shape, np.int16)
        return (torch.from_numpy(bits) >= border) * scale

    return mask


class MaskedDropout(nn.Module):
    """Dropout with the masks of a `DropoutMask`; nothing is dropped in evaluation mode or without masks."""

    def __init__(self, mask: DropoutMask | None) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, z: Float[Tensor, "B H"]) -> Float[Tensor, "B H"]:
        """Return the kept values, scaled, and zeros elsewhere."""
        return z * self.mask(z.detach()) if self.training and self.mask is not None else z


class SequentialHeads:
    """Heads that are trained one after another on every batch.

    Parameters
    ----------
    heads : sequence of Head
        They are trained in place.
    rates : sequence of float
        Learning rates.
    masks : sequence of DropoutMask or None
    """

    def __init__(self, heads: Sequence[Head], rates: Sequence[float], masks: Sequence[DropoutMask | None]) -> None:
        self._heads, self._optimizers = (
            list(heads),
            [torch.optim.Adam(head.parameters(), rate) for head, rate in zip(heads, rates, strict=True)],
        )
        for head, mask in zip(heads, masks, strict=True):
            for place in range(2, len(head.hidden), 4):
                head.hidden[place] = MaskedDropout(mask)

    def step(self, x: Inputs, y: Targets, multilabel: bool) -> None:
        """Train every head on one batch."""
        for head, optimizer in zip(self._heads, self._optimizers, strict=True):
            HeadTrainer(head, optimizer, partial(loss_of, multilabel=multilabel)).step(x, y)

    def predict(self, x: Float[Tensor, "n D"], batch_size: int) -> list[Float[Tensor, "n C"]]:
        """Return the logits of every head."""
        return [predict(head, x, batch_size) for head in self._heads]

    def state(self, place: int) -> dict[str, Tensor]:
        """Return a copy of the weights of one head."""
        return snapshot(self._heads[place])

    def select(self, places: Sequence[int]) -> None:
        """Keep only these heads."""
        self._heads = [self._heads[place] for place in places]
        self._optimizers = [self._optimizers[place] for place in places]


class BatchedHeads:
    """Heads as one model; the first axis of its weights is the head.

    Parameters
    ----------
    heads : sequence of Head
        Heads of one shape; they are not changed.
    rates : sequence of float
        Learning rates.
    masks : sequence of DropoutMask or None
        Mask function of each head, called with its part of a hidden layer, (B, H). None: nothing is dropped.
    device : torch.device
    """

    def __init__(
        self, heads: Sequence[Head], rates: Sequence[float], masks: Sequence[DropoutMask | None], device: torch.device
    ) -> None:
        weights, running = stack_module_state(list(heads))
        self._weights = {name: value.detach().to(device) for name, value in weights.items()}
        self._running = {name: value.to(device) for name, value in running.items()}
        self._moments = {
            name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in self._weights.items()
        }
        self._rates, self._masks, self._steps = torch.tensor(rates, device=device), list(masks), 0
        self._hidden = [f"hidden.{4 * layer}" for layer in range(len(heads[0].hidden) // 4)]

    def step(self, x: Inputs, y: Targets, multilabel: bool) -> None:
        """Train every head on one batch."""
        for weight in self._weights.values():
            weight.requires_grad_()
        logits = self._logits(x, learns=True)
        heads = logits.shape[1]  # the mean over rows and heads, times the number of heads, is the sum of their losses
        loss = heads * loss_of(logits.flatten(0, 1), y.repeat_interleave(heads, dim=0), multilabel)
        self._adam(dict(zip(self._weights, torch.autograd.grad(loss, list(self._weights.values())), strict=True)))

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "n D"], batch_size: int) -> list[Float[Tensor, "n C"]]:
        """Return the logits of every head, on the CPU."""
        return list(
            torch.cat([self._logits(part, learns=False) for part in torch.split(x, batch_size)]).cpu().unbind(dim=1)
        )

    def state(self, place: int) -> dict[str, Tensor]:
        """Return a copy of the weights of one head, on the CPU."""
        return {
            name: value[place].detach().to("cpu", copy=True)
            for name, value in {**self._weights, **self._running}.items()
        }

    def select(self, places: Sequence[int]) -> None:
        """Keep only these heads."""
        self._weights = {name: value.detach()[places] for name, value in self._weights.items()}
        self._running = {name: value[places] for name, value in self._running.items()}
        self._moments = {name: (mean[places], square[places]) for name, (mean, square) in self._moments.items()}
        self._rates, self._masks = self._rates[places], [self._masks[place] for place in places]

    def _logits(self, x: Float[Tensor, "B D"], learns: bool) -> Float[Tensor, "B K C"]:
        h = x
        for number, linear in enumerate(self._hidden):
            h = F.relu(
                self._dropped(self._normalised(self._linear(h, linear), f"hidden.{4 * number + 1}", learns), learns)
            )
        return self._linear(h, "projection")

    def _linear(self, h: Float[Tensor, "B I"] | Float[Tensor, "B K I"], name: str) -> Float[Tensor, "B K O"]:
        z: Tensor = torch.einsum("bi,koi->bko" if h.ndim == 2 else "bki,koi->bko", h, self._weights[f"{name}.weight"])
        return z.add_(self._weights[f"{name}.bias"])

    def _normalised(self, z: Float[Tensor, "B K H"], name: str, learns: bool) -> Float[Tensor, "B K H"]:
        mean, variance = (
            self._running[f"{name}.running_{which}"].view(-1) for which in ("mean", "var")
        )  # views, which batch_norm updates
        if learns:
            self._running[f"{name}.num_batches_tracked"] += 1
        gain, bias = (self._weights[f"{name}.{which}"].flatten() for which in ("weight", "bias"))
        wide: Tensor = F.batch_norm(z.flatten(1), mean, variance, gain, bias, learns, MOMENTUM, EPSILON)
        return wide.view_as(z)

    def _dropped(self, z: Float[Tensor, "B K H"], learns: bool) -> Float[Tensor, "B K H"]:
        if not learns or all(mask is None for mask in self._masks):
            return z
        shares = z.detach().unbind(dim=1)
        kept = [
            torch.ones_like(share) if mask is None else mask(share)
            for share, mask in zip(shares, self._masks, strict=True)
        ]
        return z * torch.stack(kept, dim=1)

    @torch.no_grad()
    def _adam(self, grads: dict[str, Tensor]) -> None:
        """Update the weights like `torch.optim.Adam`, with a learning rate for each head."""
        self._steps += 1
        (first, second), steps = BETAS, self._steps
        sizes, correction = self._rates / (1 - first**steps), math.sqrt(1 - second**steps)
        for name, grad in grads.items():
            weight, (mean, square) = self._weights[name], self._moments[name]
            mean.lerp_(grad, 1 - first)
            square.mul_(second).addcmul_(grad, grad, value=1 - second)
            weight.sub_(sizes.view(-1, *[1] * (weight.ndim - 1)) * mean / (square.sqrt() / correction).add_(ADAM_EPS))
