"""Padding that is masked out changes nothing: the outputs are those of the real patches alone."""

from __future__ import annotations

import pytest
import torch

from unheard.model.encoder import Encoder
from unheard.model.patches import Grid
from unheard.model.sizes import ModelConfig
from unheard.model.transformer import AttentionKernel, use_attention


@pytest.mark.parametrize("cls_token", [True, False])
@pytest.mark.parametrize("kernel", ["fused", "explicit"])
def test_padding_that_is_masked_changes_nothing(kernel: AttentionKernel, cls_token: bool) -> None:
    grid = Grid(2, 4, (8, 4))
    config = ModelConfig(embed_dim=16, depth=2, num_heads=2, cls_token=cls_token)
    encoder = Encoder(config, grid).eval()
    use_attention(encoder, kernel)
    patches = torch.randn(3, grid.num_patches, grid.patch_dim, generator=torch.Generator().manual_seed(0))
    keep = grid.crop_time(3).expand(3, -1)
    real = torch.zeros(3, grid.num_patches, dtype=torch.bool).scatter(1, keep, True)
    expected, expected_cls = encoder(patches, keep)
    patches[~real] = 100.0
    tokens, cls = encoder.masked(patches, real)
    torch.testing.assert_close(tokens[real].reshape(expected.shape), expected)
    if cls_token:
        torch.testing.assert_close(cls, expected_cls)
    else:
        assert cls is None and expected_cls is None
