"""Training of a small classifier on frozen embeddings, and a linear layer with oneDNN kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unheard.errors import require

Loss = Callable[[Tensor, Tensor], Tensor]


class OneDnnLinear(nn.Linear):
    """`nn.Linear` with matrix products by oneDNN, if torch has it; results differ by rounding.

    torch uses MKL for float32, which has slow kernels for CPUs of other vendors than Intel. oneDNN is twice as fast
    there.
    """

    def forward(self, x: Float[Tensor, "n k"]) -> Float[Tensor, "n m"]:
        """Return x W^T + b."""
        if not _has_onednn() or x.device.type != "cpu" or x.dtype != torch.float32:
            return super().forward(x)
        found: Tensor = _OneDnnProduct.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return found


class _OneDnnProduct(torch.autograd.Function):
    """Compute x W^T + b and its gradients with oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        of_x = _product(grad, weight.t()) if ctx.needs_input_grad[0] else None
        return of_x, _product(grad.t(), x.t()), grad.sum(dim=0)


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the product of (n, k) and the transpose of (m, k), plus a bias."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return found


@cache
def _has_onednn() -> bool:
    """Return whether torch has oneDNN and the private operator."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]


class HeadTrainer:
    """Train a classifier on fixed vectors, batch by batch.

    Parameters
    ----------
    head : nn.Module
        Trained in place.
    optimizer : Optimizer
        Optimiser of the parameters of ``head``.
    loss : callable
        (logits, targets) -> mean loss of a batch.
    """

    def __init__(self, head: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss) -> None:
        self.head, self.optimizer, self.loss = head, optimizer, loss

    def step(self, x: Float[Tensor, "B ..."], y: Shaped[Tensor, "B ..."]) -> Float[Tensor, ""]:
        """Train on one batch. Return the loss before the step."""
        self.head.train()
        loss = self.loss(self.head(x), y)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit linear algebra to one thread, because several threads slow the solver down on a loaded machine."""
    require("threadpoolctl", "eval")
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
