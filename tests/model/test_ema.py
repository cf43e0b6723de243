"""The EMA teacher of latent objectives."""

import torch

from unheard.model.ema import EmaTeacher
from unheard.model.encoder import Encoder
from unheard.model.patches import Grid
from unheard.model.sizes import ModelConfig

SIZE = ModelConfig(
    frames=80,
    patch_size=(16, 16),
    embed_dim=48,
    depth=3,
    num_heads=4,
    decoder_embed_dim=32,
    decoder_depth=2,
    decoder_num_heads=2,
)


def test_the_teacher_follows_by_its_momentum_and_sees_hidden_patches_only():
    encoder = Encoder(SIZE, Grid(5, 5, (16, 16)))
    teacher = EmaTeacher(encoder, init_from_student=False)
    before = [p.clone() for p in teacher.parameters()]
    teacher.ema_update(encoder, 0.9)
    for old, now, student in zip(before, teacher.parameters(), encoder.transformer.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * student)
    patches, hide = torch.randn(2, 25, 256), torch.arange(10, 25).expand(2, -1)
    changed = patches.clone()
    changed[:, :10] = 5.0
    torch.testing.assert_close(teacher(encoder, patches, hide), teacher(encoder, changed, hide))
