"""Weights, gradients and optimiser states in parts, one for each process: FSDP2 of PyTorch (``training.shard``).

Every parameter is split along its first axis into as many parts as there are processes. The parts of a block are joined
when it computes, and those of everything else, a convolutional decoder included, at the beginning of a pass. Buffers
and single numbers stay whole in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from unheard.model.conv_decoder import ConvDecoder
from unheard.model.transformer import RecomputableModule

CLIP_EPS = 1e-6  # of torch.nn.utils.clip_grad_norm_


def shard(module: nn.Module, device: torch.device, processes: int) -> None:
    """Split the parameters of a module over all processes, in place; build its optimiser afterwards."""
    mesh = init_device_mesh(device.type, (processes,))
    for child in list(module.modules()):
        if isinstance(child, RecomputableModule) and not isinstance(child, ConvDecoder):
            fully_shard(child, mesh=mesh)
            if hasattr(child, "branches"):
                register_fsdp_forward_method(child, "branches")
    numbers = [  # FSDP2 does not split them
        (owner, name, parameter)
        for owner in module.modules()
        for name, parameter in owner.named_parameters(recurse=False)
        if parameter.ndim == 0
    ]
    for owner, name, _ in numbers:
        del owner._parameters[name]
    fully_shard(module, mesh=mesh)
    for owner, name, parameter in numbers:
        owner.register_parameter(name, parameter)


def is_sharded(module: nn.Module) -> bool:
    """Return whether the parameters of a module are split over the processes."""
    return isinstance(module, FSDPModule)


def own_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process has; of a whole tensor, all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_parts(tensors: Mapping[str, Tensor], first: bool) -> dict[str, Tensor]:
    """Return the part of this process of each tensor; whole tensors in the ``first`` process only."""
    return {name: own_part(value) for name, value in tensors.items() if first or isinstance(value, DTensor)}


@torch.no_grad()
def whole_tensors(tensors: Mapping[str, Tensor], first: bool) -> dict[str, Tensor]:
    """Join the parts of tensors. Every process must call this; the result is empty in all but the ``first``."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        joined = value.full_tensor() if isinstance(value, DTensor) else value
        if first:
            found[name] = joined.cpu() if isinstance(value, DTensor) else joined
    return found


def like_parameter(value: Tensor, parameter: Tensor) -> Tensor:
    """Move a whole tensor of the shape of a parameter to its device; only the part of this process if it is split."""
    if not isinstance(parameter, DTensor):
        return value.to(parameter.device)
    mesh = parameter.device_mesh
    chunks = value.chunk(mesh.size(), dim=0)
    rank = mesh.get_local_rank()
    part = chunks[rank] if rank < len(chunks) else value[:0]
    return DTensor.from_local(
        part.to(parameter.device).contiguous(),
        mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def separated(groups: list[dict[str, object]]) -> list[dict[str, object]]:
    """Separate split and whole parameters of an optimiser, whose kernels do not take both at once."""
    found: list[dict[str, object]] = []
    for group in groups:
        parameters = group["params"]
        assert isinstance(parameters, list)
        for split in (True, False):
            chosen = [each for each in parameters if isinstance(each, DTensor) == split]
            found += [{**group, "params": chosen}] if chosen else []
    return found


def gradient_norm(module: nn.Module, add: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the Euclidean norm of all gradients of a module; every process must call this.

    Parameters
    ----------
    add : callable
        Sums a tensor over the processes.
    """
    parts, whole = _gradients(module)
    norm: Tensor = torch.nn.utils.get_total_norm(whole)
    if not parts:
        return norm
    squares = add(torch.nn.utils.get_total_norm(parts).square())
    return (squares + norm.to(squares.device).square()).sqrt()


@torch.no_grad()
def clip_gradients(module: nn.Module, norm: Tensor, largest: float) -> None:
    """Scale the gradients of a module so that their norm is at most ``largest``, as torch's function does."""
    factor = (largest / (norm + CLIP_EPS)).clamp(max=1.0)
    torch._foreach_mul_([each for given in _gradients(module) for each in given], factor)


@torch.no_grad()
def average_whole_gradients(module: nn.Module, mean: Callable[[Tensor], Tensor]) -> None:
    """Replace whole gradients by their mean over the processes; those of split parameters are exchanged by FSDP2."""
    for gradient in _gradients(module)[1]:
        gradient.copy_(mean(gradient))


def _gradients(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parts of this process of the split gradients of a module, and its whole gradients."""
    given = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return (
        [own_part(each) for each in given if isinstance(each, DTensor)],
        [each for each in given if not isinstance(each, DTensor)],
    )
