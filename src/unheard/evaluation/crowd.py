"""Heads of one shape that learn from the same batches: one stacked model on an accelerator, beside each other on a CPU.

Stacked, a first layer of K heads is one layer K times as wide, and those after it are one batched product, so that an accelerator is
given few large operations in place of many small ones; dropout alone is drawn head by head. On a CPU the activations of one head stay in
its cache and those of K do not: there the heads take turns, which is quicker (docs/performance.md). Given the same dropout both learn the
same weights up to rounding; an accelerator draws its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import stack_module_state
from torch.nn import functional as F

from unheard.evaluation.descent import BETAS, MOMENTUM, SMALL, Descent, Drop, dropped
from unheard.evaluation.fit import predict, snapshot
from unheard.evaluation.head import EPSILON, Head, Hyper, loss_of

Inputs = Float[Tensor, "B D"]
Targets = Float[Tensor, "B C"]


@runtime_checkable
class Crowd(Protocol):
    """Heads under way; those that are done leave."""

    def step(self, x: Inputs, y: Targets, multilabel: bool) -> None:
        """One step of every head on one batch."""
        ...

    def predict(self, x: Float[Tensor, "n D"], batch_size: int) -> list[Float[Tensor, "n C"]]:
        """Logits of every head, on the CPU."""
        ...

    def state(self, place: int) -> dict[str, Tensor]:
        """A copy of one head's weights, on the CPU."""
        ...

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these heads alone."""
        ...


def gather(heads: Sequence[Head], hypers: Sequence[Hyper], seeds: Sequence[int], device: torch.device) -> Crowd:
    """The heads as the crowd that is quickest on a device, each with its own learning rate and its own dropout."""
    rates = [hyper.lr for hyper in hypers]
    if device.type == "cpu":
        return Beside(heads, rates, [drawn(hyper.dropout, seed) for hyper, seed in zip(hypers, seeds, strict=True)])
    generators = [torch.Generator(device).manual_seed(seed) if hyper.dropout else None for hyper, seed in zip(hypers, seeds, strict=True)]
    drops = [dropped(hyper.dropout, generator) for hyper, generator in zip(hypers, generators, strict=True)]
    return Stacked(heads, rates, drops, device)


def drawn(probability: float, seed: int) -> Drop | None:
    """Dropout from a generator of its own; sixteen random bits decide about a value, which takes a third of torch's time on a CPU."""
    if not probability:
        return None
    generator, border, scale = np.random.Generator(np.random.SFC64(seed)), round(probability * 2**16) - 2**15, 1 / (1 - probability)

    def drop(z: Float[Tensor, "B H"]) -> Float[Tensor, "B H"]:
        bits = generator.integers(-(2**15), 2**15, z.shape, np.int16)
        return (torch.from_numpy(bits) >= border) * scale

    return drop


class Beside:
    """Heads that take turns at every batch."""

    def __init__(self, heads: Sequence[Head], rates: Sequence[float], drops: Sequence[Drop | None]) -> None:
        self._descents = [Descent(head, rate, drop) for head, rate, drop in zip(heads, rates, drops, strict=True)]

    def step(self, x: Inputs, y: Targets, multilabel: bool) -> None:
        """One step of every head on one batch."""
        for descent in self._descents:
            descent.step(x, y, multilabel)

    def predict(self, x: Float[Tensor, "n D"], batch_size: int) -> list[Float[Tensor, "n C"]]:
        """Logits of every head."""
        return [predict(descent.head, x, batch_size) for descent in self._descents]

    def state(self, place: int) -> dict[str, Tensor]:
        """A copy of one head's weights."""
        return snapshot(self._descents[place].head)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these heads alone."""
        self._descents = [self._descents[place] for place in places]


class Stacked:
    """Heads as one model, whose weights have an axis of heads in front.

    Parameters
    ----------
    heads : sequence of Head
        Of one shape; are not changed.
    rates : sequence of float
        Learning rates.
    drops : sequence of Drop or None
        Are given each head's share of a hidden layer, (B, H); nothing of a head without one is dropped.
    device : torch.device
    """

    def __init__(self, heads: Sequence[Head], rates: Sequence[float], drops: Sequence[Drop | None], device: torch.device) -> None:
        weights, running = stack_module_state(list(heads))
        self._weights = {name: value.detach().to(device) for name, value in weights.items()}
        self._running = {name: value.to(device) for name, value in running.items()}
        self._moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in self._weights.items()}
        self._rates, self._drops, self._steps = torch.tensor(rates, device=device), list(drops), 0
        self._hidden = [f"hidden.{4 * layer}" for layer in range(len(list(heads[0].layers())))]

    def step(self, x: Inputs, y: Targets, multilabel: bool) -> None:
        """One step of every head on one batch."""
        for weight in self._weights.values():
            weight.requires_grad_()
        logits = self._logits(x, learns=True)
        heads = logits.shape[1]  # the mean over rows and heads, times the heads, is the sum of their losses
        loss = heads * loss_of(logits.flatten(0, 1), y.repeat_interleave(heads, dim=0), multilabel)
        self._adam(dict(zip(self._weights, torch.autograd.grad(loss, list(self._weights.values())), strict=True)))

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "n D"], batch_size: int) -> list[Float[Tensor, "n C"]]:
        """Logits of every head, on the CPU."""
        return list(torch.cat([self._logits(part, learns=False) for part in torch.split(x, batch_size)]).cpu().unbind(dim=1))

    def state(self, place: int) -> dict[str, Tensor]:
        """A copy of one head's weights, on the CPU."""
        return {name: value[place].detach().to("cpu", copy=True) for name, value in {**self._weights, **self._running}.items()}

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these heads alone."""
        self._weights = {name: value.detach()[places] for name, value in self._weights.items()}
        self._running = {name: value[places] for name, value in self._running.items()}
        self._moments = {name: (mean[places], square[places]) for name, (mean, square) in self._moments.items()}
        self._rates, self._drops = self._rates[places], [self._drops[place] for place in places]

    def _logits(self, x: Float[Tensor, "B D"], learns: bool) -> Float[Tensor, "B K C"]:
        h = x
        for number, linear in enumerate(self._hidden):
            h = F.relu(self._dropped(self._normalised(self._linear(h, linear), f"hidden.{4 * number + 1}", learns), learns))
        return self._linear(h, "projection")

    def _linear(self, h: Float[Tensor, "B I"] | Float[Tensor, "B K I"], name: str) -> Float[Tensor, "B K O"]:
        z: Tensor = torch.einsum("bi,koi->bko" if h.ndim == 2 else "bki,koi->bko", h, self._weights[f"{name}.weight"])
        return z.add_(self._weights[f"{name}.bias"])

    def _normalised(self, z: Float[Tensor, "B K H"], name: str, learns: bool) -> Float[Tensor, "B K H"]:
        mean, variance = (self._running[f"{name}.running_{which}"].view(-1) for which in ("mean", "var"))  # views, kept up to date
        gain, bias = (self._weights[f"{name}.{which}"].flatten() for which in ("weight", "bias"))
        wide: Tensor = F.batch_norm(z.flatten(1), mean, variance, gain, bias, learns, MOMENTUM, EPSILON)
        return wide.view_as(z)

    def _dropped(self, z: Float[Tensor, "B K H"], learns: bool) -> Float[Tensor, "B K H"]:
        if not learns or all(drop is None for drop in self._drops):
            return z
        shares = z.detach().unbind(dim=1)
        kept = [torch.ones_like(share) if drop is None else drop(share) for share, drop in zip(shares, self._drops, strict=True)]
        return z * torch.stack(kept, dim=1)

    @torch.no_grad()
    def _adam(self, grads: dict[str, Tensor]) -> None:
        """Adam as `descent.Adam`, with a learning rate for every head."""
        self._steps += 1
        (first, second), steps = BETAS, self._steps
        sizes, correction = self._rates / (1 - first**steps), math.sqrt(1 - second**steps)
        for name, grad in grads.items():
            weight, (mean, square) = self._weights[name], self._moments[name]
            mean.lerp_(grad, 1 - first)
            square.mul_(second).addcmul_(grad, grad, value=1 - second)
            weight.sub_(sizes.view(-1, *[1] * (weight.ndim - 1)) * mean / (square.sqrt() / correction).add_(SMALL))
