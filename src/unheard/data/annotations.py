"""Annotations of the clips, added to each batch: labels for the supervised branch, captions for the contrastive
loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from unheard.data.class_sets import ClassSets
from unheard.data.tables import refuse_two_forms
from unheard.devices import to_device
from unheard.errors import DataError
from unheard.objectives.base import Batch
from unheard.progress import Track, silent

SHOWN = 5  # names listed in an error

Categories: TypeAlias = tuple[list[str], Int32[np.ndarray, " n"]]
"""The different texts of a column, sorted, and the number of each clip's text; see `Texts.categories`."""


class LabelTable:
    """Adds ``labels`` and ``has_labels`` to a batch.

    Parameters
    ----------
    labels : tuple of list of str and Int[ndarray, "n"]
        The different texts of labels, joined by ``|``, and the number of each clip's text; see `Texts.categories`.
    classes : sequence of str, optional
        The classes. Default: all labels that occur, sorted.

    Raises
    ------
    DataError
        When no clip has a label, one has a label that is not among the classes, or a label is written in two Unicode
        forms.
    """

    def __init__(self, labels: Categories, classes: Sequence[str] = ()) -> None:
        texts, numbers = labels
        names_of_texts = [[name.strip() for name in text.split("|") if name.strip()] for text in texts]
        present = sorted({name for names in names_of_texts for name in names})
        if not present:
            raise DataError(
                "no clip of this corpus has a label; give a CSV with the columns path and label, or a corpus packed"
                " from one"
            )
        refuse_two_forms(present, "the label")
        self.classes = tuple(classes) or tuple(present)
        if unknown := [name for name in present if name not in set(self.classes)]:
            raise DataError(
                f"the corpus has labels outside the {len(self.classes)} classes: {', '.join(unknown[:SHOWN])}"
            )
        number = {name: i for i, name in enumerate(self.classes)}
        sets = ClassSets.from_lists(
            [tuple(sorted({number[name] for name in names})) for names in names_of_texts], len(self.classes)
        )
        self._target = sets.take(numbers)
        self._known = torch.tensor([bool(names) for names in names_of_texts])[torch.from_numpy(numbers)]

    @property
    def num_labelled(self) -> int:
        """Return the number of clips with labels."""
        return int(self._known.sum())

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with its labels."""
        clips = batch.clips.cpu()
        device = batch.clips.device
        labels, known = to_device(self._target[clips.numpy()], device), to_device(self._known[clips].numpy(), device)
        return replace(batch, labels=labels.float(), has_labels=known)


class CaptionTable:
    """Adds ``text`` and ``captions`` to a batch; each different caption is encoded once, at the start.

    Parameters
    ----------
    captions : tuple of list of str and Int[ndarray, "n"]
        The different captions, and the number of each clip's; "" is none. See `Texts.categories`.
    encode : callable
        Function from sentences to vectors, (n, W).

    Raises
    ------
    DataError
        When no clip has a caption.
    """

    def __init__(
        self,
        captions: Categories,
        encode: Callable[[Sequence[str], Track], Float[Tensor, "n W"]],
        track: Track = silent,
    ) -> None:
        found, numbers = captions
        texts = [text for text in found if text]
        if not texts:
            raise DataError(
                "no clip of this corpus has a caption; give a CSV with the columns path and caption, or a corpus packed"
                " from one"
            )
        self.texts = tuple(texts)
        places = np.cumsum([bool(text) for text in found]) - 1
        self._numbers = torch.from_numpy(np.where([bool(text) for text in found], places, -1)[numbers])
        self._vectors = encode(texts, track).float().cpu()

    @property
    def num_labelled(self) -> int:
        """Return the number of clips with captions."""
        return int((self._numbers >= 0).sum())

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the vectors and indices of its captions; zeros and -1 for a clip without one."""
        numbers = self._numbers[batch.clips.cpu()]
        text = self._vectors[numbers.clamp(min=0)] * (numbers >= 0)[:, None]
        device = batch.clips.device
        return replace(batch, text=to_device(text.numpy(), device), captions=to_device(numbers.numpy(), device))
