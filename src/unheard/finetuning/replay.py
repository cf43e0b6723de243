"""Replay of a bad step of a fine-tuning run: the loss of its batch and of each clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from unheard.audio.waveform import Channel
from unheard.errors import CheckpointError
from unheard.files import read_json
from unheard.finetuning.loader import LabelledBatch
from unheard.finetuning.network import FinetuneSetup, begin
from unheard.finetuning.run import open_inputs, sounds_of
from unheard.finetuning.session import FinetuneSession, read_session
from unheard.finetuning.trainer import FinetuneTrainer
from unheard.training.bad_batches import CHECKPOINT, STATE, recorded_step, records
from unheard.training.callbacks import Callbacks
from unheard.training.engine import Engine
from unheard.training.guards import all_finite
from unheard.training.replay import Replay, ReplayedWindow
from unheard.weights.checkpoint import ENSEMBLE_DIR


def root_of(run: Path) -> Path | None:
    """Return the fine-tuning run that a folder is, or is a model of; None if it is neither."""
    for root in (run, run.parent.parent) if run.parent.name == ENSEMBLE_DIR else (run,):
        try:
            read_session(root)
        except CheckpointError:
            continue
        return root
    return None


def replay(
    run: str | Path, step: int | None = None, *, device: str = "auto", report: Callbacks | None = None
) -> Replay:
    """Repeat a recorded bad step of a fine-tuning run in one process. The run is not changed.

    The batches of a run of several processes are computed part by part, with the random numbers of each process.

    Parameters
    ----------
    run : path
        The run, or the folder of one of its models.
    step : int, optional
        One of the recorded steps; default the latest.

    Raises
    ------
    CheckpointError
        When ``run`` is not a fine-tuning run, the step is not recorded, or several models of the run have records.
    DataError
        When clips or labels have changed since the run started.
    """
    root = root_of(Path(run).resolve()) or Path(run)
    session = read_session(root)
    part, channel = _recorded_member(root, session, Path(run).resolve())
    folder = session.folder(root, part, channel)
    step, record = recorded_step(folder, step)
    state = read_json(record / STATE, CheckpointError)
    first, processes = int(state["checkpoint_step"]), int(state["processes"])
    recipe = replace(session.recipe, training=replace(session.recipe.training, devices=1))
    engine = Engine(recipe.training, device)
    table, saved, sounds = open_inputs(root, session, engine, report)
    if channel != session.channels[0]:
        sounds = sounds_of(root, table, saved, channel, session.shared_corpus, engine, report)
    start = FinetuneSetup(recipe, session.classes, session.activation, session.model)
    fold = next(fold for fold in table.parts if fold.name == part)
    trainer = FinetuneTrainer(folder, begin(saved, start, channel), start, sounds, fold, engine)
    trainer.prepare(record / CHECKPOINT if first else None)
    loaders = [trainer.loader(range(first, step), rank, processes) for rank in range(processes)]
    for index in range(first, step - 1):
        trainer.take_step(index, {rank: loader.batch(index).clips for rank, loader in enumerate(loaders)})
    batches = [loader.batch(step - 1) for loader in loaders]
    finite = all_finite(trainer.tuned)
    windows = _windows(trainer, batches)  # first: a bad batch changes the running statistics of batch normalisation
    loss = trainer.gradients(step - 1, {rank: batch.clips for rank, batch in enumerate(batches)})
    return Replay(step, {"loss": float(loss)}, windows, finite)


def _recorded_member(root: Path, session: FinetuneSession, asked: Path) -> tuple[str, Channel]:
    """Return the model of a run that has records of bad steps."""
    folders = {member: session.folder(root, *member) for member in session.members}
    found = [member for member, folder in folders.items() if asked in (root, folder) and records(folder)]
    if len(found) > 1:
        names = ", ".join(str(folders[member]) for member in found)
        raise CheckpointError(
            f"{len(found)} models of {root} have records of bad steps; give the folder of one: {names}"
        )
    return found[0] if found else next((member for member in folders if folders[member] == asked), session.members[0])


@torch.no_grad()
def _windows(trainer: FinetuneTrainer, batches: list[LabelledBatch]) -> list[ReplayedWindow]:
    """Compute the loss of each clip as a batch of one, in evaluation mode: batch normalisation needs two in training.

    The clips are those of the batch, after augmentation.
    """
    trainer.tuned.eval()
    store, windows = trainer.sounds.store, []
    hop = store.frontend.hop_size / store.frontend.sample_rate
    for batch in batches:
        pieces = batch.clips.pieces(len(batch.clips.values))
        for row, first, clip in zip(batch.rows.tolist(), batch.starts.tolist(), pieces, strict=True):
            largest, loss = float(clip.values.abs().max()), float(trainer.tuned(clip))
            windows.append(ReplayedWindow(store.names[row], first * hop, largest, {"loss": loss}))
    trainer.tuned.train()
    return windows
