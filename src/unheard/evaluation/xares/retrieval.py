"""Retrieval of captions by sounds and of sounds by captions: the head of Clotho."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from unheard.evaluation.xares.head import LEARNING_RATE, Fit, mean_loss, rate_of
from unheard.evaluation.xares.metrics import recall_at_1
from unheard.evaluation.xares.targets import CAPTIONS
from unheard.evaluation.xares.tasks import XaresTask

WIDTH = 1024  # of the common space
TEMPERATURE = 0.07
PADDING = -1


@dataclass(frozen=True)
class CaptionRows:
    """Vectors of clips, and the tokens of their captions.

    Parameters
    ----------
    x : Float[Tensor, "n D"]
    tokens : list of Tensor
        Five for each clip, in its order.
    """

    x: Float[Tensor, "n D"]
    tokens: Sequence[Tensor]

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the vector of the clip and the padded tokens of each caption."""
        x = self.x[torch.as_tensor(rows) // CAPTIONS]
        return x, pad_sequence([self.tokens[row] for row in rows], batch_first=True, padding_value=PADDING)


class RetrievalHead(nn.Module):
    """Two perceptrons into a common space: one of the vector of a clip, one of each token of a caption."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.audio_mlp = nn.Sequential(nn.Linear(width, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.text_model = nn.Embedding(vocabulary, WIDTH)
        self.text_mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.temperature = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))

    def forward(self, x: Float[Tensor, "n D"], tokens: Tensor) -> tuple[Float[Tensor, "n W"], Float[Tensor, "n W"]]:
        """Return the vectors of clips and of captions; a caption is the mean over its tokens."""
        real = (tokens != PADDING)[..., None]
        text = self.text_mlp(self.text_model(tokens.clamp(min=0))) * real
        return self.audio_mlp(self.ln(x)), text.sum(dim=1) / real.sum(dim=1)


def contrastive_loss(head: RetrievalHead, audio: Float[Tensor, "n W"], text: Float[Tensor, "n W"]) -> Float[Tensor, ""]:
    """Return the mean of both cross-entropies with the diagonal as target, plus the mean size of both vectors."""
    logits = head.temperature.exp() * audio @ text.T
    target = torch.arange(len(logits))
    matched = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    sizes = [each.abs().mean() / torch.linalg.norm(each) for each in (audio, text)]
    found: Tensor = matched + sizes[0] + sizes[1]
    return found


def train_retrieval(
    task: XaresTask,
    head: RetrievalHead,
    splits: tuple[CaptionRows, CaptionRows, CaptionRows],
    order: Callable[[int], Sequence[int]],
) -> Fit:
    """Train for all epochs; keep the weights of the strictly best recall on the validation split.

    ``predicted`` of the result holds the vectors of the test clips and captions, one row a caption.
    """
    fit, best = Fit(), dict[str, Tensor]()
    optimiser = torch.optim.Adam(head.parameters(), lr=LEARNING_RATE)
    for epoch in range(task.epochs):
        rate = rate_of(epoch, task.epochs)
        for group in optimiser.param_groups:
            group["lr"] = rate
        rows = order(epoch)
        for first in range(0, len(rows), task.batch):
            loss = contrastive_loss(head, *head(*splits[0].batch(rows[first : first + task.batch])))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            fit.losses.append(float(loss.detach()))
            fit.rates.append(rate)
        predicted = _predicted(task, head, splits[1])
        fit.valid_losses.append(mean_loss(lambda audio, text: contrastive_loss(head, audio, text).detach(), predicted))
        fit.valid_scores.append(sum(_recalls(predicted)) / 2)
        if epoch == 0 or fit.valid_scores[-1] > max(fit.valid_scores[:-1]):
            fit.best_epoch, best = epoch + 1, copy.deepcopy(head.state_dict())
    head.load_state_dict(best)
    fit.predicted, fit.head = _predicted(task, head, splits[2]), head
    return fit


@torch.no_grad()
def _predicted(task: XaresTask, head: RetrievalHead, rows: CaptionRows) -> list[tuple[Tensor, Tensor]]:
    batches = (range(first, min(first + task.batch, len(rows))) for first in range(0, len(rows), task.batch))
    return [head(*rows.batch(batch)) for batch in batches]


def _recalls(predicted: Sequence[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    audio, text = (torch.cat(parts) for parts in zip(*predicted, strict=True))
    return recall_at_1(audio, text, CAPTIONS)
