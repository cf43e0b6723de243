"""Miniature files in the layouts of MSM-MAE and M2D, and the released network as plain functions."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unheard.model.patches import Grid, sincos_1d, sincos_2d
from unheard.weights.layouts.ntt import M2D_STATISTICS

NAME = "16x24p8x8"
GRID = Grid.of(16, 24, (8, 8))  # 2 x 3 patches
DIM, DEPTH, HEADS = 128, 2, 2
WAV = np.random.default_rng(0).normal(0, 0.1, 23 * 160).astype(np.float32)  # 24 frames: one whole window
Keys = dict[str, Tensor]


def released(fused: bool = False, decoder: int = 64, depth: int = 1, predicts: int = 64, cls: bool = True) -> Keys:
    """The keys of a file of the MAE family with random weights; ``decoder`` 0 leaves out everything decoder-like."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.1

    def table(values: Tensor) -> Tensor:
        return torch.cat([torch.zeros(int(cls), values.shape[1]), values])[None]

    def linear(out: int, into: int, name: str) -> Keys:
        return {f"{name}.weight": draw(out, into), f"{name}.bias": draw(out)}

    def norm(dim: int, name: str) -> Keys:
        return {f"{name}.weight": 1 + draw(dim), f"{name}.bias": draw(dim)}

    def blocks(dim: int, count: int, name: str) -> Keys:
        keys: Keys = {}
        for stem in (f"{name}.{i}." for i in range(count)):
            biases = {"qkv.bias": draw(3 * dim)} if fused else {"q_bias": draw(dim), "v_bias": draw(dim)}
            keys |= norm(dim, f"{stem}norm1") | norm(dim, f"{stem}norm2") | linear(dim, dim, f"{stem}attn.proj")
            keys |= linear(4 * dim, dim, f"{stem}mlp.fc1") | linear(dim, 4 * dim, f"{stem}mlp.fc2")
            keys |= {
                f"{stem}attn.qkv.weight": draw(3 * dim, dim),
                **{f"{stem}attn.{key}": value for key, value in biases.items()},
            }
        return keys

    keys = {"norm_stats": torch.tensor([-6.5, 3.5])} if fused else {}
    keys |= {"cls_token": draw(1, 1, DIM)} if cls else {}
    keys |= {
        "pos_embed": table(sincos_2d(GRID, DIM)),
        "patch_embed.proj.weight": draw(DIM, 1, 8, 8),
        "patch_embed.proj.bias": draw(DIM),
    }
    keys |= blocks(DIM, DEPTH, "blocks") | norm(DIM, "norm")
    if decoder:
        keys |= {"mask_token": draw(1, 1, decoder), "decoder_pos_embed": table(sincos_1d(GRID.num_patches, decoder))}
        keys |= (
            linear(decoder, DIM, "decoder_embed")
            | blocks(decoder, depth, "decoder_blocks")
            | norm(decoder, "decoder_norm")
        )
        keys |= linear(predicts, decoder, "decoder_pred")
    return keys


def m2d(decoder: int = 512) -> Keys:
    student = released(fused=True, decoder=decoder, predicts=DIM)
    target = {f"target_{key}": value + 1 for key, value in student.items() if key.startswith(("blocks.", "norm."))}
    return student | target | {"norm_stats": torch.tensor(M2D_STATISTICS)}


def transformer(keys: Keys, stem: str, norm: str, heads: int, x: Tensor) -> Tensor:
    """Pre-norm blocks as the papers draw them, straight from the released keys."""
    for i in range(1 + max(int(key.split(".")[1]) for key in keys if key.startswith(stem))):
        part = {key.removeprefix(f"{stem}{i}."): value for key, value in keys.items() if key.startswith(f"{stem}{i}.")}
        bias = part.get("attn.qkv.bias")
        if bias is None:
            bias = torch.cat([part["attn.q_bias"], torch.zeros_like(part["attn.q_bias"]), part["attn.v_bias"]])
        y = F.layer_norm(x, x.shape[-1:], part["norm1.weight"], part["norm1.bias"], 1e-6)
        q, k, v = (
            z.unflatten(-1, (heads, -1)).transpose(1, 2)
            for z in F.linear(y, part["attn.qkv.weight"], bias).chunk(3, dim=-1)
        )
        y = ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + F.linear(y, part["attn.proj.weight"], part["attn.proj.bias"])
        y = F.layer_norm(x, x.shape[-1:], part["norm2.weight"], part["norm2.bias"], 1e-6)
        y = F.gelu(F.linear(y, part["mlp.fc1.weight"], part["mlp.fc1.bias"]))
        x = x + F.linear(y, part["mlp.fc2.weight"], part["mlp.fc2.bias"])
    return F.layer_norm(x, x.shape[-1:], keys[f"{norm}.weight"], keys[f"{norm}.bias"], 1e-6)


def encode(keys: Keys, spec: Tensor, keep: Tensor | None = None) -> Tensor:
    """What the released encoder says of a normalised spectrogram (B, F, T): CLS first, then the patches at ``keep``."""
    x = (
        F.conv2d(spec[:, None], keys["patch_embed.proj.weight"], keys["patch_embed.proj.bias"], stride=8)
        .flatten(2)
        .transpose(1, 2)
    )
    x = x + keys["pos_embed"][:, -GRID.num_patches :]
    x = x if keep is None else x[:, keep]
    return transformer(keys, "blocks.", "norm", HEADS, torch.cat([keys["cls_token"].expand(len(x), -1, -1), x], dim=1))


def decode(keys: Keys, encoded: Tensor, keep: Tensor, heads: int) -> Tensor:
    """What the released decoder says of every patch."""
    embedded = F.linear(encoded, keys["decoder_embed.weight"], keys["decoder_embed.bias"])
    full = keys["mask_token"].repeat(len(embedded), GRID.num_patches, 1)
    full[:, keep] = embedded[:, 1:]
    full = torch.cat([embedded[:, :1], full], dim=1) + keys["decoder_pos_embed"]
    decoded = transformer(keys, "decoder_blocks.", "decoder_norm", heads, full)[:, 1:]
    return F.linear(decoded, keys["decoder_pred.weight"], keys["decoder_pred.bias"])
