"""Inputs of objectives other than audio: frozen teachers, labels and captions, added to every batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from unheard.data.annotations import CaptionTable, LabelTable
from unheard.data.store import Store
from unheard.errors import ConfigError
from unheard.objectives.base import Batch
from unheard.objectives.registry import REGISTERED, name_of
from unheard.progress import Track, silent
from unheard.recipes.learner import grid_of
from unheard.recipes.recipe import Recipe
from unheard.teachers.load import absolute_name
from unheard.teachers.stored import StoredTargets
from unheard.teachers.targets import DistillTargets
from unheard.teachers.text import TextEncoder
from unheard.training.watch.plan import WatchedTable


class ExternalInputs:
    """Load the teachers and the text encoder of a recipe, and add their inputs to batches.

    Parameters
    ----------
    recipe : Recipe

    Attributes
    ----------
    recipe : Recipe
        The recipe with the widths of teachers and text encoder; `attach_to_corpus` adds the classes.
    added : list of callable
        Transforms applied to each batch, in order; empty before `attach_to_corpus`.
    lines : list of str
        Summary lines to print.
    watched : WatchedTable, optional
        Labelled table that is scored while the run trains; in the first process only.

    Raises
    ------
    CheckpointError, DataError
        When a teacher, stored targets or a text encoder cannot be read.
    ConfigError
        When the windows of the recipe do not match an objective.
    """

    def __init__(self, recipe: Recipe) -> None:
        requested = recipe.objectives
        self.lines: list[str] = []
        self.added: list[Callable[[Batch], Batch]] = []
        self.targets: DistillTargets | None = None
        self.text: TextEncoder | None = None
        self.watched: WatchedTable | None = None
        if requested.distill.weight > 0:
            self.targets = DistillTargets(requested.distill, recipe.data.input == "wav")
            requested = requested.updated(self.targets.config)
        if requested.contrast.weight > 0:
            name = absolute_name(requested.contrast.text)
            self.text = TextEncoder(name)
            requested = requested.updated(replace(requested.contrast, text=name, text_dim=self.text.dim))
        self._supervised = [section for name, section in requested.active().items() if REGISTERED[name].labels]
        given = {section.classes for section in self._supervised if section.classes}
        if len(given) > 1:
            raise ConfigError(
                f"the objectives {', '.join(map(name_of, self._supervised))} have different classes; give all of them"
                " the same list"
            )
        self._classes: tuple[str, ...] = next(iter(given), ())
        if (
            self._supervised or self.text is not None or self.targets is not None
        ) and recipe.data.short_clips == "join":
            raise ConfigError(
                "windows joined from several clips cannot have a label, caption or teacher; set data.short_clips=pad"
            )
        self.recipe = replace(recipe, objectives=requested)

    @property
    def fingerprint(self) -> str:
        """Hash of the teachers; empty if there is none."""
        return "" if self.targets is None else self.targets.fingerprint

    @property
    def stored(self) -> list[StoredTargets]:
        """Return the stored targets that the run reads."""
        return [] if self.targets is None else self.targets.stored

    def buildable_recipe(self) -> Recipe:
        """Return a recipe that can be built before the classes of the corpus are known."""
        return self._with_classes(self._classes or ("",))

    def attach_to_corpus(self, store: Store, device: torch.device, track: Track = silent) -> Recipe:
        """Set up the batch transforms for a corpus. Return the recipe with the classes of the corpus.

        Raises
        ------
        DataError
            When the corpus lacks labels, captions or waveforms that the recipe needs, or stored targets are of another
            corpus.
        """
        if self._supervised:
            table = LabelTable(store.categories("label"), self._classes)
            self.recipe = self._with_classes(table.classes)
            self.lines.append(
                f"labels     {len(table.classes)} classes; {table.num_labelled} of {len(store)} clips have labels"
            )
            self.added.append(table)
        if self.text is not None:
            captions = CaptionTable(store.categories("caption"), self.text.to(device), track)
            self.lines.append(
                f"captions   {captions.num_labelled} of {len(store)} clips, {len(captions.texts)} different ones"
            )
            self.added.append(captions)
        if self.targets is not None:
            self.targets.attach(store, grid_of(self.recipe), self.recipe.frontend, device)
            self.lines += self.targets.lines
            self.added.append(self.targets)
        return self.recipe

    def _with_classes(self, classes: tuple[str, ...]) -> Recipe:
        sections = [replace(section, classes=classes) for section in self._supervised]
        return replace(self.recipe, objectives=self.recipe.objectives.updated(*sections))
