"""The targets of feature distillation: every teacher's features of each patch, added to batches.

A teacher computes them from the waveform of a window, or they are read from the stored targets of its clip. Both are
aligned to the student's patches in hertz and seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from unheard.addresses import named
from unheard.audio.frontend_kinds import FrontendConfig, build_frontend
from unheard.audio.resample import resample
from unheard.data.store import Store, WaveStore
from unheard.devices import to_device
from unheard.errors import ConfigError, DataError
from unheard.model.patches import Grid
from unheard.objectives.base import Batch
from unheard.objectives.distill_config import DistillConfig, DistillTeacher
from unheard.objectives.teacher_loss import TARGET_EPS
from unheard.teachers.align import alignment_matrix, row_weights
from unheard.teachers.load import absolute_name, load_teacher
from unheard.teachers.stored import StoredTargets, is_stored, open_targets
from unheard.teachers.teacher import FrozenTeacher


@dataclass(frozen=True, eq=False)
class StudentPatches:
    """Positions of the student's patches.

    Parameters
    ----------
    grid : Grid
    bands : Float64[ndarray, "F"]
        Centres of its mel bands in Hz.
    frames : Float64[ndarray, "T"]
        Centres of its frames in seconds from the start of the window.
    """

    grid: Grid
    bands: Float64[np.ndarray, " F"]
    frames: Float64[np.ndarray, " T"]

    @classmethod
    def of(cls, grid: Grid, frontend: FrontendConfig) -> StudentPatches:
        """Return the positions of a grid over the spectrograms of a front end."""
        built = build_frontend(frontend)
        frames = np.array([built.frame_centre(number) for number in range(grid.frames)])
        return cls(grid, np.asarray(built.mel_centres(), np.float64), frames)


class ComputedTargets:
    """Compute targets in training: resample, run the teacher, round to float16, align to the student's patches.

    Parameters
    ----------
    teacher : FrozenTeacher
        On the device batches are on.
    student : StudentPatches
    sample_rate : int
        Of ``batch.wav``.
    """

    def __init__(self, teacher: FrozenTeacher, student: StudentPatches, sample_rate: int) -> None:
        self.teacher, self.student, self.sample_rate = teacher, student, sample_rate
        self._matrices: dict[tuple[int, torch.device], Float[Tensor, "N L"]] = {}

    def __call__(self, batch: Batch) -> Float[Tensor, "B N C"]:
        """Return the targets of a batch.

        Raises
        ------
        ConfigError
            When it holds no waveform.
        DataError
            When the teacher returns a map of another size, or values that are not finite.
        """
        if batch.wav is None:
            raise ConfigError(
                "a teacher needs waveforms, and these batches hold spectrograms only; pack the corpus with --store wav"
            )
        inputs = resample(batch.wav, self.sample_rate, self.teacher.sample_rate)
        maps: Tensor = self.teacher(inputs).to(torch.float16)  # as stored targets are
        features = maps.flatten(2).transpose(1, 2).float()  # (B, L, C)
        samples = -(-batch.wav.shape[1] * self.teacher.sample_rate // self.sample_rate)
        return self._matrix(samples, features.device) @ features

    def _matrix(self, samples: int, device: torch.device) -> Float[Tensor, "N L"]:
        key = (samples, device)
        if key not in self._matrices:
            student = self.student
            matrix = alignment_matrix(student.grid, student.bands, student.frames, self.teacher.axes(samples))
            self._matrices[key] = matrix.to(device)
        return self._matrices[key]


class ReadTargets:
    """Read targets from stored maps: the columns around each window, aligned to the student's patches by time.

    Parameters
    ----------
    stored : StoredTargets
    student : StudentPatches
    standardise : bool
        Standardise each channel by the stored statistics.
    """

    def __init__(self, stored: StoredTargets, student: StudentPatches, standardise: bool) -> None:
        self.stored, self.grid = stored, student.grid
        pt = self.grid.patch_size[1]
        self._centres = student.frames.reshape(self.grid.time, pt).mean(axis=1)
        self._rows = row_weights(self.grid, student.bands, stored.header.edges).astype(np.float32)
        statistics = stored.header.statistics
        mean, std = torch.tensor(statistics.mean), torch.tensor(statistics.std).clamp(min=TARGET_EPS**0.5)
        self._statistics = (mean, std) if standardise else None

    def __call__(self, batch: Batch) -> Float[Tensor, "B N C"]:
        """Return the targets of a batch."""
        device = batch.clips.device
        starts = batch.start_seconds.double().cpu().numpy()
        columns, weights = self.stored.columns_at(batch.clips.cpu().numpy(), starts[:, None] + self._centres)
        maps = to_device(columns, device).float()  # (B, U, f, C)
        if self._statistics is not None:
            mean, std = (each.to(device) for each in self._statistics)
            maps = (maps - mean) / std
        whole = np.einsum("ir,bju->bijur", self._rows, weights)
        ordered = whole if self.grid.order == "freq" else whole.transpose(0, 2, 1, 3, 4)
        matrix = to_device(ordered.reshape(len(starts), self.grid.num_patches, -1), device)
        return matrix @ maps.flatten(1, 2)


class DistillTargets:
    """The teachers of a recipe: loaded or opened first, attached to a corpus later, then applied to every batch.

    Parameters
    ----------
    config : DistillConfig
    waves : bool
        Whether batches hold waveforms.

    Attributes
    ----------
    config : DistillConfig
        With absolute folders, and the channels, projection and standardisation of every teacher.
    lines : list of str
        Summary lines to print.

    Raises
    ------
    CheckpointError, DataError
        When a teacher cannot be loaded, or stored targets cannot be opened.
    ConfigError
        When a teacher needs waveforms that batches do not hold, or a setting differs from that of stored targets.
    """

    def __init__(self, config: DistillConfig, waves: bool) -> None:
        self.lines: list[str] = []
        self.sources: list[FrozenTeacher | StoredTargets] = []
        sections = []
        for number, section in enumerate(config.teachers):
            where, rooted = f"objectives.distill.teachers.{number}", replace(section, name=absolute_name(section.name))
            source = open_targets(rooted.name) if is_stored(Path(rooted.name)) else _loaded(rooted, where, waves)
            self.sources.append(source)
            if isinstance(source, StoredTargets):
                sections.append(_with_stored(rooted, source, where))
                self.lines.append(f"targets    {source.header.teacher}, stored in {named(source.folder)}")
            else:
                standardise = "running" if section.standardise == "auto" else section.standardise
                sections.append(replace(rooted, dim=source.dim, standardise=standardise))
                self.lines.append(f"teacher    {source.name}")
        self.config = replace(config, teachers=tuple(sections))
        self._readers: list[ComputedTargets | ReadTargets] = []

    @property
    def fingerprint(self) -> str:
        """Hashes of the teachers or of their stored targets."""
        return "-".join(source.fingerprint for source in self.sources)

    @property
    def stored(self) -> list[StoredTargets]:
        """Return the stored targets among the sources."""
        return [source for source in self.sources if isinstance(source, StoredTargets)]

    def attach(self, store: Store, grid: Grid, frontend: FrontendConfig, device: torch.device) -> None:
        """Prepare the targets of the windows of a corpus.

        Raises
        ------
        DataError
            When stored targets belong to another corpus, or a teacher needs waveforms that the corpus lacks.
        """
        student = StudentPatches.of(grid, frontend)
        for source, section in zip(self.sources, self.config.teachers, strict=True):
            if isinstance(source, StoredTargets):
                source.check_corpus(store)
                self._readers.append(ReadTargets(source, student, section.standardise == "stored"))
                continue
            if not isinstance(store, WaveStore):
                raise DataError("a frozen teacher needs the waveform of each window; pack the corpus with --store wav")
            self._readers.append(ComputedTargets(source.to(device), student, store.sample_rate))
            if store.sample_rate < source.sample_rate:
                rates = f"audio of {store.sample_rate} Hz is resampled to {source.sample_rate} Hz"
                self.lines.append(f"note       {rates} for the teacher")

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the targets of every teacher."""
        return replace(batch, targets=tuple(read(batch) for read in self._readers))


def _loaded(section: DistillTeacher, where: str, waves: bool) -> FrozenTeacher:
    """Load a teacher that computes its targets in training."""
    if section.standardise == "stored" or section.pca is not None:
        setting = f"{where}.standardise=stored" if section.standardise == "stored" else f"{where}.pca"
        raise ConfigError(
            f"{setting} needs stored targets; write them with unheard data targets CORPUS --teacher NAME -o DIR, and"
            f" set {where}.name=DIR"
        )
    if section.name and not waves:
        raise ConfigError(
            "a frozen teacher needs the waveform of each window; set data.input=wav, or store its targets first with"
            " unheard data targets"
        )
    return load_teacher(section.name, stage=section.stage, projected=section.projected)


def _with_stored(section: DistillTeacher, stored: StoredTargets, where: str) -> DistillTeacher:
    """Return the section with the settings of stored targets."""
    header = stored.header
    for name, default in (("stage", "final"), ("projected", False), ("pca", None)):
        wanted, found = getattr(section, name), getattr(header, name)
        if wanted not in (default, found):
            raise ConfigError(
                f"{where}.{name} is {wanted}, and the targets in {named(stored.folder)} were stored with {found}; omit"
                " the setting, or store other targets"
            )
    standardise = "stored" if section.standardise == "auto" else section.standardise
    kept = replace(section, stage=header.stage, projected=header.projected, pca=header.pca)
    return replace(kept, dim=header.dim, standardise=standardise)
