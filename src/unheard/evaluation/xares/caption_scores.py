"""Scores of a retrieval task."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from unheard.bootstrap import mean_statistic
from unheard.evaluation.comparison import TestPart, averaged_replicates
from unheard.evaluation.xares.embeddings import EmbeddedSplit
from unheard.evaluation.xares.head import Fit
from unheard.evaluation.xares.metrics import recall_hits
from unheard.evaluation.xares.protocol import SEED, TaskScores, summary
from unheard.evaluation.xares.retrieval import CaptionRows, RetrievalHead, train_retrieval
from unheard.evaluation.xares.shuffles import epoch_order, generators, shards_of
from unheard.evaluation.xares.targets import CAPTIONS, captions
from unheard.evaluation.xares.tasks import XaresTask
from unheard.evaluation.xares.wordpiece import WordPiece


def score_captions(
    task: XaresTask, splits: Mapping[str, EmbeddedSplit], vocabulary: WordPiece, seeds: int
) -> TaskScores:
    """Train and test retrieval heads. The score of a clip is the mean of its hit and of those of its captions.

    Resamples keep all captions as candidates.
    """
    rows = [_rows(task, splits[name], vocabulary) for name in task.splits]
    train, valid, test = rows
    shards = shards_of([len(train.x)])
    found, fits, hits = [], list[list[Fit]](), []
    for seed in range(SEED, SEED + seeds):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = RetrievalHead(train.x.shape[1], vocabulary.size)

        def order(epoch: int) -> list[int]:
            return epoch_order(shards, epoch, *generators(seed, 0, epoch), rows=CAPTIONS)  # noqa: B023

        fit = train_retrieval(task, head, (train, valid, test), order)
        audio, text = (torch.cat(parts) for parts in zip(*fit.predicted, strict=True))
        hits.append(np.mean(recall_hits(audio, text, CAPTIONS), axis=0))
        found.append({"split": task.splits[2], "seed": seed, task.metric: float(hits[-1].mean())})
        fits.append([fit])
    clips = np.array(splits[task.splits[2]].clips)
    return summary(found, fits, averaged_replicates([TestPart(clips, [mean_statistic(each) for each in hits])]))


def _rows(task: XaresTask, split: EmbeddedSplit, vocabulary: WordPiece) -> CaptionRows:
    texts = captions(task, split.clips, split.records)
    tokens = [torch.tensor(vocabulary(text)) for several in texts for text in several]
    return CaptionRows(torch.from_numpy(split.vectors), tokens)
