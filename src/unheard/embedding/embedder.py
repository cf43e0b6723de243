"""A loaded model: audio in, embeddings out.

    file -> wav -> spec -> windows of the trained duration, batched -> encoder without mask -> frames -> mean = scene

Only real patches are encoded: the last window of a clip is cut to the patches it fills, and positions are cut with it.
The result of a clip does not depend on the other clips.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from jaxtyping import Float32, Float64
from numpy.typing import ArrayLike
from torch import Tensor

from unheard.audio.framing import Frontend
from unheard.audio.frontend import Statistics
from unheard.audio.frontend_kinds import build_frontend, frontend_on
from unheard.embedding.classify import by_name, classify_many
from unheard.embedding.embedding_model import EmbeddingModel, Pending
from unheard.embedding.job import Embedding, EmbeddingAccumulator, Layer, LiveFrames, Options, Sound, blocks_of
from unheard.embedding.streaming import stream_frames
from unheard.embedding.windows import Window, column_frames, cut_at_offsets, shifts, spectrograms
from unheard.errors import ConfigError
from unheard.model.encoder import Encoder, layer_numbers
from unheard.model.patches import Grid
from unheard.outputs import refuse_existing
from unheard.recipes.recipe import Recipe
from unheard.remote.outputs import uploaded
from unheard.weights.checkpoint import SavedModel
from unheard.weights.export.hf_folder import save_hf
from unheard.weights.export.hub import Upload, push
from unheard.weights.export.metadata import refuse_padding

__all__ = ["Embedding", "Model", "Options", "Sound"]

Precision = Literal["float32", "bf16"]


class Model(EmbeddingModel):
    """An encoder with its front end, ready to embed; the result of `unheard.load`.

    Parameters
    ----------
    saved : SavedModel
        Content of a model folder.
    device : str
        Device of the encoder.
    pad_window : bool
        Pad the last window of a clip with the mean to the trained length, as for published MSM-MAE features.
    precision : {"float32", "bf16"}
        Of the matrix products of the encoder. The front end and the results are float32.
    """

    @torch.inference_mode(mode=False)
    def __init__(
        self, saved: SavedModel, device: str = "cpu", pad_window: bool = False, precision: Precision = "float32"
    ) -> None:
        self.precision: Precision = precision
        self.config: Recipe = saved.recipe
        self.learner = saved.learner.to(device)
        self.statistics: Statistics = saved.statistics
        self.provenance = saved.provenance
        self.classifier = saved.classifier
        self.frontend = build_frontend(saved.recipe.frontend)
        self.pad_window = pad_window

    def __repr__(self) -> str:
        size = sum(each.numel() for each in self.encoder.parameters()) / 1e6
        classes = f", {len(self.labels)} classes" if self.labels else ""
        return (
            f"Model({self.origin or self.config.name!r}: {self.config.name}, encoder of {size:.1f} M parameters,"
            f" {self.embedding_size} values, {self.sample_rate} Hz, {self.device}{classes})"
        )

    @property
    def encoder(self) -> Encoder:
        """Return the encoder as a plain module: patches (B, N, P) in, tokens (B, N, D) and CLS (B, D) out."""
        return self.learner.model.encoder

    @property
    def device(self) -> torch.device:
        """Return the device of the encoder; moving the encoder moves the computation."""
        return self.encoder.positions.device

    @property
    def gpu_frontend(self) -> Frontend | None:
        """Return the front end on the GPU of the encoder; None on other devices, where readers transform samples."""
        return frontend_on(self.config.frontend, self.device) if self.device.type == "cuda" else None

    @property
    def grid(self) -> Grid:
        """Return the patch grid of one window."""
        return self.learner.grid

    @property
    def sample_rate(self) -> int:
        """Return the sample rate of the front end; files are resampled to it."""
        return self.config.frontend.sample_rate

    @property
    def embedding_size(self) -> int:
        """Return D': embed_dim times the number of frequency patches."""
        return self.encoder.embed_dim * self.grid.freq

    @property
    def saved(self) -> SavedModel:
        """Return the parts of the model, as stored in a model folder."""
        return SavedModel(self.learner, self.config, self.statistics, self.provenance, self.classifier)

    @uploaded("folder")
    def save_pretrained(self, folder: str | Path, *, code: bool = False, overwrite: bool = False) -> None:
        """Write a folder, also at an address, that transformers loads; with ``code`` also without this package.

        Raises
        ------
        ConfigError
            When the folder exists, unless it is an earlier export and ``overwrite`` is set, or windows are padded.
        """
        refuse_padding(self.pad_window)
        refuse_existing(folder, overwrite, "choose another folder, or set overwrite=True")
        save_hf(self.saved, Path(folder), code=code)

    def push_to_hub(self, repo: str, *, dry_run: bool = False, code: bool = True, private: bool = False) -> Upload:
        """Upload the model to the Hugging Face Hub; with ``dry_run`` print the files and the card only. See `push`."""
        refuse_padding(self.pad_window)
        return push(self.saved, repo, dry_run=dry_run, code=code, private=private)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the classes of a fine-tuned model, in the order of its scores; empty for others."""
        return self.classifier.config.labels if self.classifier is not None else ()

    @overload
    def classify(self, sound: Sound) -> Float32[np.ndarray, " C"]: ...

    @overload
    def classify(self, sound: list[Sound]) -> list[Float32[np.ndarray, " C"]]: ...

    def classify(self, sound: Sound | list[Sound]) -> Float32[np.ndarray, " C"] | list[Float32[np.ndarray, " C"]]:
        """Return the scores of the classes in `labels` for a clip, or for each of a list; see `classify_many`."""
        if isinstance(sound, list):
            return [scores for _, scores in classify_many(self, sound)]
        return next(classify_many(self, [sound]))[1]

    def stream(
        self, chunks: Iterable[ArrayLike], sample_rate: int, *, hop: float | None = None, layer: Layer = None
    ) -> Iterator[LiveFrames]:
        """Yield the frames of a signal as soon as the audio they need is there, in order of time.

        They equal those of `embed` for the whole signal. A frame comes at most one trained window, one patch, two
        analysis frames and one chunk after its sound: 2.3 s and a chunk for unheard-tiny.

        Parameters
        ----------
        chunks : iterable of array, (s,) or (channels, s)
            Consecutive pieces of any length; values as for `embed`. ``hop`` and ``layer`` are those of `Options`.
        sample_rate : int
            Of the chunks, in Hz.

        Yields
        ------
        tuple of ndarray (t, D') and ndarray (t,)
            Frames, and the centres of their time steps in milliseconds from the start of the signal.

        Raises
        ------
        AudioError
            When a chunk is not a waveform.
        ConfigError
            When a layer or hop does not exist.
        """
        return stream_frames(self, chunks, sample_rate, Options(layer=layer, hop=hop))

    @overload
    def predict(self, sound: Sound) -> dict[str, float]: ...

    @overload
    def predict(self, sound: list[Sound]) -> list[dict[str, float]]: ...

    def predict(self, sound: Sound | list[Sound]) -> dict[str, float] | list[dict[str, float]]:
        """Return the score of every class by its name for a sound, highest first; for a list, return a list.

        Raises
        ------
        AudioError
            When a sound cannot be read.
        ConfigError
            When the model has no classes.
        """
        scores = self.classify(sound)
        if isinstance(scores, list):
            return [by_name(self.labels, each) for each in scores]
        return by_name(self.labels, scores)

    def with_statistics(self, statistics: Statistics) -> Model:
        """Return the same model with other normalisation statistics."""
        other = copy.copy(self)
        other.statistics = statistics
        return other

    @property
    def description(self) -> str:
        """Return the name of the recipe and the origin of the weights."""
        source = self.provenance.source
        return f"{self.config.name} ({source})" if source else self.config.name

    @property
    def depth(self) -> int:
        """Return the number of blocks of the encoder."""
        return len(self.encoder.transformer.blocks)

    def row_size(self, options: Options) -> int:
        """Return the width of the rows of a table: of frames, or of scenes if frames are left out."""
        width = self.embedding_size * len(layer_numbers(options.layer, self.depth))
        return width * (2 if options.pool == "mean+std" and not options.frames else 1)

    def check_options(self, options: Options) -> None:
        """Check options."""
        self.offsets(options.hop)
        layer_numbers(options.layer, self.depth)

    def windows(self, sound: Sound, job: EmbeddingAccumulator) -> Iterator[Window]:
        """Yield the windows of a clip at every offset, in the order of their starts."""
        waves = blocks_of(sound, self.sample_rate)
        for windows, _ in self.cut(job.count_samples(waves), self.offsets(job.options.hop)):
            yield from sorted(windows, key=lambda window: window.start)

    def cut(
        self, waves: Iterable[Float32[np.ndarray, " s"]], offsets: Sequence[int]
    ) -> Iterator[tuple[list[Window], int]]:
        """Yield windows of a signal as `cut_at_offsets`, of samples if the front end is on a GPU."""
        on_gpu, framing = self.gpu_frontend is not None, self.frontend.framing
        blocks = framing.hops(waves) if on_gpu else self.frontend.stream(waves)
        return cut_at_offsets(blocks, self.grid.frames, offsets, framing.overlap if on_gpu else 0)

    @torch.inference_mode()
    def encode(self, pending: Pending, options: Options) -> None:
        """Encode all pending windows, batched by number of patches, and pass the frames to their clips in order."""
        groups: dict[int, list[int]] = {}
        for index, (_, window) in enumerate(pending):
            groups.setdefault(self.grid.real_columns(window.frames), []).append(index)
        results: dict[int, np.ndarray] = {}
        for columns, members in groups.items():
            for at in range(0, len(members), self.batch):
                chunk = members[at : at + self.batch]
                with self.autocast():
                    found = self.encode_windows([pending[i][1] for i in chunk], columns, options)
                results.update(zip(chunk, found, strict=True))
        for index, (job, window) in enumerate(pending):
            frames = results[index]
            weights = np.array([window.frames], np.float32) if options.cls else column_frames(self.grid, window.frames)
            job.pool(frames, weights)
            job.keep(frames, self._times(window, len(frames)))
        pending.clear()

    def _times(self, window: Window, columns: int) -> Float64[np.ndarray, " t"]:
        """Return the centres of the columns of a window in milliseconds."""
        width = self.grid.patch_size[1]
        middle = window.start + np.arange(columns) * width + (width - 1) / 2
        return 1000 * (self.frontend.frame_centre(0) + middle * self.frontend.hop_size / self.sample_rate)

    def autocast(self) -> torch.autocast:
        """Return a context in which the encoder computes at the model's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def encode_windows(
        self, windows: list[Window], columns: int, options: Options = Options()
    ) -> Float32[np.ndarray, "B t D"]:
        """Return frame embeddings of windows that fill ``columns`` patches in time."""
        patches = self.grid.patchify(spectrograms(windows, self.grid, self.statistics, self.device, self.gpu_frontend))
        whole = self.pad_window or columns == self.grid.time
        keep = None if whole else self.grid.crop_time(columns, self.device).expand(len(windows), -1)
        if options.cls:
            return self._cls(patches, keep)[:, None].float().cpu().numpy()
        narrow = Grid(self.grid.freq, self.grid.time if whole else columns, self.grid.patch_size, self.grid.order)
        if options.layer is None:
            chosen = [self.encoder(patches, keep)[0]]
        else:
            every = self.encoder.layers(patches, keep)
            chosen = [every[number - 1] for number in layer_numbers(options.layer, self.depth)]
        frames = [narrow.to_timesteps(tokens)[:, :columns] for tokens in chosen]
        return torch.cat(frames, dim=-1).float().cpu().numpy()

    def _cls(self, patches: Tensor, keep: Tensor | None) -> Tensor:
        """Return the CLS output (B, D)."""
        cls: Tensor | None = self.encoder(patches, keep)[1]
        if cls is None:
            raise ConfigError("this model's encoder has no CLS token; use the patch tokens")
        return cls

    def offsets(self, hop: float | None) -> list[int]:
        """Return the first frames of the shifted passes that together give one frame every ``hop`` seconds."""
        return shifts(hop, self.config.frontend.hop_size / self.sample_rate, self.grid.patch_size[1])
