"""Evaluation of several encoders on X-ARES tasks: embed, train heads, score, and store the results.

OUT/pooled/MODE/ENCODER/TASK/ (embeddings)  OUT/scores/MODE/ENCODER/TASK.json  OUT/failures/MODE/ (tracebacks)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from unheard.bootstrap import bc_interval
from unheard.errors import DataError
from unheard.evaluation.encoders.choose import Encoder, folder_name
from unheard.evaluation.failures import FAILURES, report_failure
from unheard.evaluation.head_training import one_thread
from unheard.evaluation.report import Report, Result, load_result, save_result
from unheard.evaluation.xares.caption_scores import score_captions
from unheard.evaluation.xares.embeddings import EmbeddedSplit, Embedding, embed_split, skipped_remark
from unheard.evaluation.xares.protocol import TaskScores, rounds, score_rows
from unheard.evaluation.xares.rows import rows_of
from unheard.evaluation.xares.tasks import XaresTask
from unheard.evaluation.xares.wordpiece import WordPiece
from unheard.files import file_checksum
from unheard.progress import Track, silent

SCORING_VERSION = 1  # of scores and intervals; results of other versions are recomputed
POOLED = "pooled"  # folder of embeddings
SECONDS = 2.0  # of silence, from which the hop of an encoder is taken; our choice

XaresMode = Literal["xares", "xares-exact"]


@dataclass(frozen=True)
class XaresConfig:
    """Configuration of an evaluation.

    Parameters
    ----------
    exact : bool
        No padding in batches, all crops, nearest neighbours with unit rows, no epoch chosen on test clips.
    seeds : int
        Number of seeds, from 42.
    vocabulary : path, optional
        WordPiece vocabulary for Clotho, which is left out without it.
    """

    exact: bool = False
    seeds: int = 1
    vocabulary: Path | None = None

    @property
    def mode(self) -> XaresMode:
        """Name in file names and results."""
        return "xares-exact" if self.exact else "xares"


def evaluate(
    encoders: Sequence[Encoder],
    tasks: Sequence[tuple[Path, XaresTask]],
    out: Path,
    plan: XaresConfig = XaresConfig(),
    track: Track = silent,
    log: Callable[[str], None] = lambda text: None,
) -> Report:
    """Evaluate encoders on tasks. Failed tasks are reported, and the others continue.

    Parameters
    ----------
    tasks : sequence of tuple
        Folder and description of each task.
    out : Path
        Output folder; existing results are reused.
    log : callable
        Receives messages about failures, recomputed scores and samples that are left out.
    """
    run = _Run(out, plan, WordPiece(plan.vocabulary) if plan.vocabulary else None, track, log)
    for path, task in tasks:
        if task.kind == "captions" and run.vocabulary is None:
            run.remark(f"{task.name} is left out: it needs --vocabulary with the vocab.txt of BERT")
            continue
        for encoder in encoders:
            with report_failure(run.report, task.name, encoder.name, out / FAILURES / plan.mode, log):
                run.report.results.append(run.score(path, task, encoder))
    return run.report


def hop_of(encoder: Encoder) -> float:
    """Return the seconds between the frames of an encoder.

    Raises
    ------
    DataError
        When it returns a single frame for two seconds.
    """
    declared = getattr(encoder, "hop_ms", None)
    if declared is not None:
        return float(declared) / 1000
    _, times = encoder.timestamps(torch.zeros(1, int(SECONDS * encoder.sample_rate)))
    if times.shape[1] < 2:
        raise DataError(f"{encoder.name} returns one vector for {SECONDS:g} s of audio; event tasks need frames")
    return float(times[0, -1] - times[0, 0]) / 1000 / (times.shape[1] - 1)


@dataclass
class _Run:
    """An evaluation while it runs."""

    out: Path
    plan: XaresConfig
    vocabulary: WordPiece | None
    track: Track
    log: Callable[[str], None]
    report: Report = field(default_factory=Report)

    def remark(self, text: str) -> None:
        """Add a caveat to the report, once."""
        if text not in self.report.remarks:
            self.report.remarks.append(text)
            self.log(text)

    def score(self, path: Path, task: XaresTask, encoder: Encoder) -> Result:
        """Return the stored or computed result of one encoder on one task."""
        splits = self._embedded(path, task, encoder)
        hop = hop_of(encoder) if task.kind == "frames" else 0.0
        made_from = [(name, split.stamp) for name, split in splits.items()]
        captions = task.kind == "captions" and self.plan.vocabulary is not None
        words = file_checksum(self.plan.vocabulary) if captions and self.plan.vocabulary else ""
        settings = (task, self.plan.mode, self.plan.seeds, hop, words, SCORING_VERSION)
        stamp = hashlib.sha256(repr((made_from, settings)).encode()).hexdigest()
        clips = hashlib.sha256(repr((task, [(each.content, each.keys) for each in splits.values()])).encode())
        protocol = {"clips": clips.hexdigest(), "seeds": self.plan.seeds, "vocabulary": words}
        protocol["version of scores"] = SCORING_VERSION
        kept = self.out / "scores" / self.plan.mode / folder_name(encoder) / f"{task.name}.json"
        if (before := load_result(kept, stamp)) is not None:
            return replace(before, protocol=protocol)
        if kept.is_file():
            self.log(f"{task.name}: {encoder.name} was scored with other inputs or settings; scoring it again")
        with one_thread():
            found = self._scores(task, splits, hop)
        low, high = bc_interval(found.replicates, found.means[task.metric])
        result = Result(
            task.name, encoder.name, self.plan.mode, task.metric, found.means[task.metric], low, high, found.means,
            found.splits, found.chosen, encoder.options, found.replicates, protocol=protocol,
        )  # fmt: skip
        save_result(kept, stamp, result)
        return result

    def _embedded(self, path: Path, task: XaresTask, encoder: Encoder) -> dict[str, EmbeddedSplit]:
        folder = self.out / POOLED / self.plan.mode / folder_name(encoder) / task.name
        how = Embedding(encoder, self.plan.exact, folder, self.track)
        found = {pattern: embed_split(task, path, pattern, how) for pattern in task.patterns}
        for name, split in found.items():
            if split.skipped:
                self.remark(skipped_remark(task, name, split.skipped))
        if len(widths := {split.vectors.shape[1] for split in found.values()}) > 1:
            raise DataError(
                f"{encoder.name} returned vectors of {' and '.join(map(str, sorted(widths)))} dimensions; all must have"
                " one width"
            )
        return found

    def _scores(self, task: XaresTask, splits: dict[str, EmbeddedSplit], hop: float) -> TaskScores:
        if task.kind == "captions":
            assert self.vocabulary is not None, "the task is left out without it"
            return score_captions(task, splits, self.vocabulary, self.plan.seeds)
        rows = {name: rows_of(task, split, hop) for name, split in splits.items()}
        return score_rows(task, rounds(task, rows, self.plan.exact), hop, self.plan.seeds, self.plan.exact, self.track)
