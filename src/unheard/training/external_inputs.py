"""What a recipe's objectives need beside the sound: a frozen teacher, labels, captions. Opened once, added to every
batch.
"""

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
from unheard.teachers.load import load_teacher
from unheard.teachers.targets import Targets
from unheard.teachers.teacher import FrozenTeacher
from unheard.teachers.text import TextEncoder


def _rooted(asked: ObjectivesConfig) -> ObjectivesConfig:
    """Folders named by absolute paths, so that a run goes on from wherever it is resumed."""
    teacher, text = (
        str(Path(name).resolve()) if name and Path(name).is_dir() else name
        for name in (asked.clap.teacher, asked.contrast.text)
    )
    return asked.updated(replace(asked.clap, teacher=teacher), replace(asked.contrast, text=text))


class ExternalInputs:
    """Opens what a recipe names.

    Parameters
    ----------
    recipe : Recipe

    Attributes
    ----------
    recipe : Recipe
        The same, with the widths of teacher and text encoder filled in; `join` fills in the classes.
    added : list of callable
        What is done to each batch, in order; empty before `join`.
    lines : list of str
        What a person is told of them.

    Raises
    ------
    CheckpointError
        When a teacher or text encoder cannot be read.
    ConfigError
        When the recipe's windows cannot serve it.
    """

    def __init__(self, recipe: Recipe) -> None:
        asked = _rooted(recipe.objectives)
        self.lines: list[str] = []
        self.added: list[Callable[[Batch], Batch]] = []
        self.teacher: FrozenTeacher | None = None
        self.text: TextEncoder | None = None
        if asked.clap.weight > 0:
            if recipe.data.input != "wav":
                raise ConfigError("a frozen teacher listens to the sound of each window; set data.input=wav")
            self.teacher = load_teacher(asked.clap)
            asked = asked.updated(replace(asked.clap, dim=self.teacher.dim))
            self.lines.append(f"teacher    {self.teacher.name}")
        if asked.contrast.weight > 0:
            self.text = TextEncoder(asked.contrast.text)
            asked = asked.updated(replace(asked.contrast, text_dim=self.text.dim))
        self._supervised = [section for name, section in asked.active().items() if REGISTERED[name].labels]
        given = {section.classes for section in self._supervised if section.classes}
        if len(given) > 1:
            raise ConfigError(
                f"the objectives {', '.join(map(name_of, self._supervised))} name different classes; a corpus has one"
                " list"
            )
        self._classes: tuple[str, ...] = next(iter(given), ())
        if (
            self._supervised or self.text is not None or self.teacher is not None
        ) and recipe.data.short_clips == "join":
            raise ConfigError(
                "windows of several clips have no label, caption or teacher of their own; set data.short_clips=pad"
            )
        self.recipe = replace(recipe, objectives=asked)

    @property
    def fingerprint(self) -> str:
        """Hash of the teacher; empty without one."""
        return "" if self.teacher is None else self.teacher.fingerprint

    def buildable_recipe(self) -> Recipe:
        """A recipe that can be built before the corpus has told its classes."""
        return self._with_classes(self._classes or ("",))

    def attach_to_corpus(self, store: Store, device: torch.device, run: Path, track: Track = silent) -> Recipe:
        """Set up for a corpus: what is `added` to each of its batches, and the recipe with its classes.

        Raises
        ------
        DataError
            When the corpus lacks labels, captions or sound that the recipe learns from.
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
        """The teacher, set to the windows that are cut from this corpus."""
        if not isinstance(store, WaveStore):
            raise DataError("a frozen teacher needs the sound of each window; pack the corpus with --store wav")
        recipe, frontend = self.recipe, build_frontend(self.recipe.frontend)
        window = recipe.model.frames
        frames = [frontend.frame_centre(i) for i in range(window)]
        samples = -(-round(window * store.hop) * teacher.sample_rate // store.sample_rate)
        kept = None
        if recipe.objectives.clap.cache and int(store.frames.max()) <= window:
            axes = teacher.axes(samples)
            place = (store.folder or run) / "targets" / f"{teacher.fingerprint}-{window}"
            kept = TargetCache(place, len(store), (teacher.dim, len(axes.edges) + 1, len(axes.columns)))
            self.lines.append(f"targets    kept in {place}")
        if store.sample_rate < teacher.sample_rate:
            self.lines.append(
                f"note       the teacher hears {store.sample_rate} Hz sound at its {teacher.sample_rate} Hz"
            )
        return Targets(teacher, grid_of(recipe), frontend.mel_centres(), frames, store.sample_rate, kept)
