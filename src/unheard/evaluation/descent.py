"""How a `Head` learns: its forward and backward pass and Adam, written out.

The operations and their order are those of torch's own layers, gradients and optimiser, so results are the same bit for bit; what is
left out is the bookkeeping and the memory a graph takes for itself in every step, which is most of the time on small tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.evaluation.head import EPSILON, Head, loss_of

BETAS, SMALL = (0.9, 0.999), 1e-8  # torch's and heareval's defaults of Adam
MOMENTUM = 0.1  # torch's and heareval's default of BatchNorm1d


Drop = Callable[[Float[Tensor, "B H"]], Float[Tensor, "B H"]]
"""What to multiply with for dropout: 0 where dropped, 1 / (1 - p) elsewhere."""


def dropped(probability: float, generator: torch.Generator | None = None) -> Drop | None:
    """Dropout as torch's own layer draws it, from the global generator where no other is given."""
    if not probability:
        return None
    return lambda z: torch.empty_like(z).bernoulli_(1 - probability, generator=generator).div_(1 - probability)


@dataclass(frozen=True)
class _Layer:
    """What the backward pass needs of one hidden layer."""

    linear: nn.Linear
    norm: nn.BatchNorm1d
    x: Float[Tensor, "B I"]
    z: Float[Tensor, "B H"]  # before normalisation
    mean: Float[Tensor, " H"]
    inverse: Float[Tensor, " H"]  # of the deviation
    kept: Float[Tensor, "B H"] | None  # see Drop
    out: Float[Tensor, "B H"]


class Descent:
    """Trains one head.

    Parameters
    ----------
    head : Head
        Is changed; multiplies by its own ``product``.
    lr : float
    drop : Drop, optional
        Nothing is dropped when left out.
    """

    def __init__(self, head: Head, lr: float, drop: Drop | None = None) -> None:
        self.head, self._drop = head, drop
        self._adam = Adam(list(head.parameters()), lr)

    @torch.no_grad()
    def step(self, x: Float[Tensor, "B D"], y: Float[Tensor, "B C"], multilabel: bool) -> Float[Tensor, ""]:
        """One step on one batch; the loss before it."""
        h, layers, projection = x, [], self.head.projection
        for linear, norm in self.head.layers():
            layers.append(self._forward(linear, norm, h))
            h = layers[-1].out
        logits = self.head.product(h, projection.weight, projection.bias)
        with torch.enable_grad():
            loss = loss_of(logits.requires_grad_(), y, multilabel)
            (grad,) = torch.autograd.grad(loss, logits)
        self._linear_backward(projection, h, grad)
        weight = projection.weight
        for layer in reversed(layers):
            grad = self._backward(layer, self.head.product(grad, weight.t()))
            weight = layer.linear.weight
        self._adam.step()
        return loss.detach()

    def _forward(self, linear: nn.Linear, norm: nn.BatchNorm1d, x: Float[Tensor, "B I"]) -> _Layer:
        z, kept = self.head.product(x, linear.weight, linear.bias), None
        running = norm.running_mean, norm.running_var
        out, mean, inverse = torch.native_batch_norm(z, norm.weight, norm.bias, *running, True, MOMENTUM, EPSILON)
        if self._drop is not None:
            kept = self._drop(out)
            out.mul_(kept)
        return _Layer(linear, norm, x, z, mean, inverse, kept, out.relu_())

    def _backward(self, layer: _Layer, grad: Float[Tensor, "B H"]) -> Float[Tensor, "B H"]:
        """Keep the gradients of a layer's weights; the gradient of what its linear part gave."""
        norm, grad = layer.norm, torch.ops.aten.threshold_backward(grad, layer.out, 0)
        if layer.kept is not None:
            grad.mul_(layer.kept)
        told = norm.weight, norm.running_mean, norm.running_var, layer.mean, layer.inverse
        grad, norm.weight.grad, norm.bias.grad = torch.ops.aten.native_batch_norm_backward(grad, layer.z, *told, True, EPSILON, [True] * 3)
        self._linear_backward(layer.linear, layer.x, grad)
        return grad

    def _linear_backward(self, linear: nn.Linear, x: Float[Tensor, "B I"], grad: Float[Tensor, "B O"]) -> None:
        linear.weight.grad = self.head.product(grad.t(), x.t(), out=linear.weight.grad)
        linear.bias.grad = grad.sum(dim=0)


class Adam:
    """torch's Adam without options, in memory that is taken once.

    Parameters
    ----------
    weights : sequence of Parameter
        Their ``grad`` is read.
    lr : float
    """

    def __init__(self, weights: Sequence[nn.Parameter], lr: float) -> None:
        self._weights, self._lr, self._steps = list(weights), lr, 0
        self._moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in weights]
        self._scratch = torch.empty(max(weight.numel() for weight in weights))

    @torch.no_grad()
    def step(self) -> None:
        """Move every weight that has a gradient."""
        self._steps += 1
        (first, second), steps = BETAS, self._steps
        size, correction = self._lr / (1 - first**steps), math.sqrt(1 - second**steps)
        for weight, (mean, square) in zip(self._weights, self._moments, strict=True):
            if weight.grad is None:
                continue
            mean.lerp_(weight.grad, 1 - first)
            square.mul_(second).addcmul_(weight.grad, weight.grad, value=1 - second)
            scale = self._scratch[: weight.numel()].view_as(weight)
            torch.sqrt(square, out=scale).div_(correction).add_(SMALL)
            weight.addcdiv_(mean, scale, value=-size)
