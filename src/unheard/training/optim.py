"""Optimiser and schedule."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unheard.recipes.recipe import TrainingConfig


def parameter_groups(module: nn.Module, weight_decay: float, everything: bool = False) -> list[dict[str, object]]:
    """AdamW groups as MAE has them: biases, gains and positions are not decayed, matrices and tokens are; or
    ``everything`` is.
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
    """Fused AdamW with the recipe's moments; its rate is set before every step."""
    groups = parameter_groups(module, config.weight_decay, everything=config.weight_decay_on == "all")
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.adam_eps, fused=True)


def peak_learning_rate(config: TrainingConfig) -> float:
    """The recipe's rate, or its base rate scaled by batch / 256."""
    if config.learning_rate is not None:
        return config.learning_rate
    return config.base_learning_rate * config.batch_size / 256


def learning_rate(progress: float, peak: float, warmup: float, lowest: float = 0.0) -> float:
    """Linear warm-up from 0, then half a cosine to the lowest rate.

    Parameters
    ----------
    progress : float
        Share of the run that is done, in [0, 1].
    peak : float
        Rate at the end of the warm-up.
    warmup : float
        Share of the run that warms up.
    lowest : float
        Rate at the end of the run.
    """
    if progress < warmup:
        return peak * progress / warmup
    return lowest + (peak - lowest) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1 - warmup, 1e-12)))


def optimiser_state(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """The optimiser's tensors by parameter name, such as ``model.encoder.cls_token/exp_avg``."""
    named: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {f"{named[p]}/{key}": value for p, state in optimiser.state.items() for key, value in state.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_state` gave."""
    parameters = dict(module.named_parameters())
    for full, value in tensors.items():
        name, _, key = full.rpartition("/")
        parameter = parameters[name]
        optimiser.state[parameter][key] = value if key == "step" else value.to(parameter.device)
