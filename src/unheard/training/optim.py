"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unheard.recipes.recipe import TrainingConfig
from unheard.training.parallel.sharding import like_parameter, separated


def parameter_groups(module: nn.Module, weight_decay: float, everything: bool = False) -> list[dict[str, object]]:
    """Return parameter groups for AdamW as in MAE.

    Weight decay applies to matrices and tokens, not to biases, gains and positions; with ``everything``, to all.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim > 1 and not name.endswith("positions")
            token = name.endswith(("cls_token", "mask_token"))
            (decayed if everything or matrix or token else free).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def build_optimiser(module: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return fused AdamW with the betas of the recipe; the learning rate is set before every step."""
    groups = parameter_groups(module, config.weight_decay, everything=config.weight_decay_on == "all")
    return torch.optim.AdamW(separated(groups), lr=0.0, betas=config.betas, eps=config.adam_eps, fused=True)


def peak_learning_rate(config: TrainingConfig) -> float:
    """Return the learning rate of the recipe, or its base rate times batch size / 256."""
    if config.learning_rate is not None:
        return config.learning_rate
    return config.base_learning_rate * config.batch_size / 256


def learning_rate(progress: float, peak: float, warmup: float, lowest: float = 0.0) -> float:
    """Return the learning rate: linear warm-up from 0, then half a cosine to the lowest rate.

    Parameters
    ----------
    progress : float
        Fraction of the run that is done, in [0, 1].
    peak : float
        Rate at the end of the warm-up.
    warmup : float
        Fraction of the run used for warm-up.
    lowest : float
        Rate at the end of the run.
    """
    if progress < warmup:
        return peak * progress / warmup
    return lowest + (peak - lowest) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1 - warmup, 1e-12)))


def optimiser_state(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of the optimiser by parameter name, such as ``model.encoder.cls_token/exp_avg``."""
    named: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {f"{named[p]}/{key}": value for p, state in optimiser.state.items() for key, value in state.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Restore the tensors of `optimiser_state`."""
    parameters = dict(module.named_parameters())
    for full, value in tensors.items():
        name, _, key = full.rpartition("/")
        parameter = parameters[name]
        optimiser.state[parameter][key] = value if key == "step" else like_parameter(value, parameter)
