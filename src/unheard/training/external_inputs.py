"""Inputs of objectives other than audio: a frozen teacher, labels and captions, added to every batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from unheard.audio.frontends import build_frontend
from unheard.data.annotations import CaptionTable, LabelTable
from unheard.data.store import Store, WaveStore
from unheard.errors import ConfigError, DataError
from unheard.objectives.base import Batch
from unheard.objectives.registry import REGISTERED, name_of
from unheard.progress import Track, silent
from unheard.recipes.learner import grid_of
from unheard.recipes.recipe import ObjectivesConfig, Recipe
from unheard.teachers.cache import TargetCache
from unheard.teachers.load import absolute_name, load_teacher
from unheard.teachers.targets import Targets
from unheard.teachers.teacher import FrozenTeacher
from unheard.teachers.text import TextEncoder


def _rooted(requested: ObjectivesConfig) -> ObjectivesConfig:
    """Return the objectives with absolute folder paths, so that the run can be resumed from any working directory."""
    teacher, text = (absolute_name(name) for name in (requested.clap.teacher, requested.contrast.text))
    return requested.updated(replace(requested.clap, teacher=teacher), replace(requested.contrast, text=text))


class ExternalInputs:
    """Load the teacher and the text encoder of a recipe, and add their inputs to batches.

    Parameters
    ----------
    recipe : Recipe

    Attributes
    ----------
    recipe : Recipe
        The recipe with the widths of teacher and text encoder; `attach_to_corpus` adds the classes.
    added : list of callable
        Transforms applied to each batch, in order; empty before `attach_to_corpus`.
    lines : list of str
        Summary lines to print.

    Raises
    ------
    CheckpointError
        When a teacher or text encoder cannot be read.
    ConfigError
        When the windows of the recipe do not match an objective.
    """

    def __init__(self, recipe: Recipe) -> None:
        requested = _rooted(recipe.objectives)
        self.lines: list[str] = []
        self.added: list[Callable[[Batch], Batch]] = []
        self.teacher: FrozenTeacher | None = None
        self.text: TextEncoder | None = None
        if requested.clap.weight > 0:
            if recipe.data.input != "wav":
                raise ConfigError("a frozen teacher needs the waveform of each window; set data.input=wav")
            self.teacher = load_teacher(
                requested.clap.teacher, stage=requested.clap.stage, projected=requested.clap.projected
            )
            requested = requested.updated(replace(requested.clap, dim=self.teacher.dim))
            self.lines.append(f"teacher    {self.teacher.name}")
        if requested.contrast.weight > 0:
            self.text = TextEncoder(requested.contrast.text)
            requested = requested.updated(replace(requested.contrast, text_dim=self.text.dim))
        self._supervised = [section for name, section in requested.active().items() if REGISTERED[name].labels]
        given = {section.classes for section in self._supervised if section.classes}
        if len(given) > 1:
            raise ConfigError(
                f"the objectives {', '.join(map(name_of, self._supervised))} have different classes; give all of them"
                " the same list"
            )
        self._classes: tuple[str, ...] = next(iter(given), ())
        if (
            self._supervised or self.text is not None or self.teacher is not None
        ) and recipe.data.short_clips == "join":
            raise ConfigError(
                "windows joined from several clips cannot have a label, caption or teacher; set data.short_clips=pad"
            )
        self.recipe = replace(recipe, objectives=requested)

    @property
    def fingerprint(self) -> str:
        """Hash of the teacher; empty if there is none."""
        return "" if self.teacher is None else self.teacher.fingerprint

    def buildable_recipe(self) -> Recipe:
        """Return a recipe that can be built before the classes of the corpus are known."""
        return self._with_classes(self._classes or ("",))

    def attach_to_corpus(self, store: Store, device: torch.device, run: Path, track: Track = silent) -> Recipe:
        """Set up the batch transforms for a corpus. Return the recipe with the classes of the corpus.

        Raises
        ------
        DataError
            When the corpus lacks labels, captions or waveforms that the recipe needs.
        """
        if self._supervised:
            table = LabelTable(store.labels, self._classes)
            self.recipe = self._with_classes(table.classes)
            self.lines.append(
                f"labels     {len(table.classes)} classes; {table.num_labelled} of {len(store)} clips have labels"
            )
            self.added.append(table)
        if self.text is not None:
            captions = CaptionTable(store.captions, self.text.to(device), track)
            self.lines.append(
                f"captions   {captions.num_labelled} of {len(store)} clips, {len(captions.texts)} different ones"
            )
            self.added.append(captions)
        if self.teacher is not None:
            self.added.append(self._targets(self.teacher.to(device), store, run))
        return self.recipe

    def _with_classes(self, classes: tuple[str, ...]) -> Recipe:
        sections = [replace(section, classes=classes) for section in self._supervised]
        return replace(self.recipe, objectives=self.recipe.objectives.updated(*sections))

    def _targets(self, teacher: FrozenTeacher, store: Store, run: Path) -> Targets:
        """Return the teacher targets for the windows of this corpus."""
        if not isinstance(store, WaveStore):
            raise DataError("a frozen teacher needs the waveform of each window; pack the corpus with --store wav")
        recipe, frontend = self.recipe, build_frontend(self.recipe.frontend)
        window = recipe.model.frames
        frames = [frontend.frame_centre(i) for i in range(window)]
        samples = -(-round(window * store.hop) * teacher.sample_rate // store.sample_rate)
        cache = None
        if recipe.objectives.clap.cache and int(store.frames.max()) <= window:
            axes = teacher.axes(samples)
            folder = (store.folder or run) / "targets" / f"{teacher.fingerprint}-{window}"
            cache = TargetCache(folder, len(store), (teacher.dim, len(axes.edges) + 1, len(axes.columns)))
            self.lines.append(f"targets    cached in {folder}")
        if store.sample_rate < teacher.sample_rate:
            self.lines.append(
                f"note       audio of {store.sample_rate} Hz is resampled to {teacher.sample_rate} Hz for the teacher"
            )
        return Targets(teacher, grid_of(recipe), frontend.mel_centres(), frames, store.sample_rate, cache)
