"""What the endpoints share: the model, the sounds, and the threads."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from unheard.addresses import named
from unheard.audio.archives.members import file_state
from unheard.audio.waveform import from_array, info, read
from unheard.embedding.embedder import Model
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.job import Options
from unheard.errors import AudioError, CheckpointError, shown
from unheard.serving.detections import Detections
from unheard.serving.folder_vectors import Embedded, FolderVectors
from unheard.serving.jobs import Jobs
from unheard.serving.label_file import LabelFile
from unheard.serving.labelling import Labelling
from unheard.serving.library import Library
from unheard.serving.limits import Limits, RefusedError
from unheard.serving.uploads import Uploads
from unheard.view.window import Window, window_of, window_seconds

Wave = Float32[np.ndarray, " S"]


@dataclass
class Workbench:
    """The state of a server.

    Parameters
    ----------
    model : EmbeddingModel
    library : Library, optional
        The files of FOLDER.
    limits : Limits
    folder : FolderVectors, optional
        The embeddings of its files.
    labels : Path
        Where labels of the page are stored. Classifiers are saved in the folder of this file.
    """

    model: EmbeddingModel
    library: Library | None = None
    limits: Limits = field(default_factory=Limits)
    folder: FolderVectors | None = None
    labels: Path = Path("labels.csv")

    @cached_property
    def jobs(self) -> Jobs:
        """Return the threads of the server."""
        return Jobs(self.limits)

    @cached_property
    def uploads(self) -> Uploads:
        """Return the uploads of the server."""
        return Uploads(self.limits)

    @property
    def own(self) -> Model:
        """Return the model as one of this library.

        Raises
        ------
        CheckpointError
            When it is an encoder of others, which gives embeddings only.
        """
        if not isinstance(self.model, Model):
            raise CheckpointError(
                f"{self.model.description} gives embeddings only; serve a model of this library for reconstruction,"
                " attention and classifiers"
            )
        return self.model

    @cached_property
    def label_file(self) -> LabelFile:
        """Return the labels of the page. Errors as in `LabelFile` and `files`."""
        return LabelFile(self.labels, self.files)

    @cached_property
    def labelling(self) -> Labelling:
        """Return the classes that are being labelled; the folder must be embedded. Errors as in `label_file`."""
        return Labelling(self.embedded, self.label_file)

    @cached_property
    def detections(self) -> Detections:
        """Return the classifiers of the server."""
        return Detections(self.model, self.labels)

    @property
    def files(self) -> Library:
        """Return the files of FOLDER.

        Raises
        ------
        RefusedError
            With status 409, when the server has no folder.
        """
        if self.library is None:
            raise RefusedError(409, "this server has no folder of sounds; start it as: unheard serve MODEL FOLDER")
        return self.library

    @property
    def embedded(self) -> Embedded:
        """Return the embeddings of FOLDER. Errors as in `files` and `FolderVectors.found`."""
        if self.folder is None:
            raise RefusedError(409, "this server has no folder of sounds; start it as: unheard serve MODEL FOLDER")
        return self.folder.found

    def label_of(self, sound: str) -> str:
        """Return the label of a file of FOLDER; empty if it has none."""
        return self.label_file.label(sound) if self.library is not None else ""

    def relative(self, text: str) -> str:
        """Return a message without the place of FOLDER on this machine."""
        return shown(text if self.library is None else text.replace(f"{named(self.library.root)}/", ""))

    def name(self, sound: str) -> str:
        """Return the name of a sound by its id."""
        if self.library is not None and sound in self.library:
            return self.library[sound].name
        return self.uploads.get(sound).name

    def address_of(self, sound: str) -> str:
        """Return the path of a file of FOLDER, for commands that the user copies; the name of an upload."""
        if self.library is not None and sound in self.library:
            return named(self.library[sound].path)
        return self.uploads.get(sound).name

    def seconds(self, sound: str) -> float:
        """Return the length of a sound."""
        if self.library is not None and sound in self.library:
            return info(self.library.path(sound)).seconds
        return self.uploads.get(sound).seconds

    def version(self, sound: str) -> str:
        """Return the id of a sound with the state of its file, which changes when the file is replaced."""
        if self.library is not None and sound in self.library:
            return f"{sound} {file_state(self.library.path(sound))}"
        return sound

    def part(self, sound: str, start: float, seconds: float | None, sample_rate: int | None = None) -> tuple[Wave, int]:
        """Return a part of a sound, mono.

        Parameters
        ----------
        sound : str
            Id of an upload or of a file.
        start, seconds : float
            None: to the end of the sound.
        sample_rate : int, optional
            Hz; default: that of the sound.

        Raises
        ------
        AudioError
            When the sound cannot be read, or ends before ``start``.
        RefusedError
            With status 404, when there is no such sound.
        """
        if self.library is not None and sound in self.library:
            try:
                return read(self.library.path(sound), sample_rate, start=start, seconds=seconds)
            except AudioError as error:  # the client gets the name of the file, not its place on this machine
                raise AudioError(self.relative(str(error))) from None
        held = self.uploads.get(sound)
        first = round(start * held.sample_rate)
        if first >= len(held.wav):
            raise AudioError(f"{held.name}: starts at {start:g} s, but the sound lasts {held.seconds:.3f} s")
        last = None if seconds is None else first + max(1, round(seconds * held.sample_rate))
        wav = held.wav[first:last]
        rate = sample_rate or held.sample_rate
        return from_array(wav, held.sample_rate, rate), rate

    def window(self, sound: str, start: float) -> Window:
        """Return one window of a sound, for reconstruction and attention. Errors as in `part` and `own`."""
        model = self.own
        wav, _ = self.part(sound, start, window_seconds(model), model.sample_rate)
        return window_of(model, model.frontend.spectrogram_cpu(wav), self.name(sound), start)

    def vector(self, sound: str, start: float = 0.0, end: float | None = None) -> Float32[np.ndarray, " D"]:
        """Return the scene embedding of a sound, or of its part from ``start`` to ``end`` in seconds."""
        given = self.part(sound, start, None if end is None else max(0.0, end - start))
        ((_, found),) = self.model.embed_many([given], Options(frames=False))
        return found.scene

    def close(self) -> None:
        """Stop all threads."""
        self.jobs.close()
        if self.folder is not None:
            self.folder.stop()
