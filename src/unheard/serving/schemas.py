"""Bodies of requests and responses of sounds, reconstruction and attention."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MaskName = Literal["random", "vertical", "horizontal", "chessboard", "structured"]
Start = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False, description="Seconds from the start of the sound.")]
SoundId = Annotated[str, Field(max_length=64, description="Id of an upload, or of a file of FOLDER.")]
Row = Annotated[list[bool], Field(min_length=1, max_length=4096)]


class Strict(BaseModel):
    """A body without unknown fields."""

    model_config = ConfigDict(extra="forbid")


class Sound(BaseModel):
    """An uploaded sound or a file of FOLDER."""

    id: str
    name: str
    seconds: float | None = None
    note: str = ""
    folder: str = ""


class Files(BaseModel):
    """A page of the files of FOLDER."""

    total: int
    files: list[Sound]


class WindowOut(BaseModel):
    """The log-mel spectrogram of one window, lowest band first."""

    name: str
    seconds: float = Field(description="Length of the sound.")
    start: float
    spec: list[list[float]] = Field(description="Bands x frames, in nats.")
    mel_hz: list[float] = Field(description="Centre frequency of each band.")
    hop_seconds: float
    patch_size: list[int] = Field(description="Bands and frames of one patch.")
    grid: list[int] = Field(description="Patches along frequency and time.")


class ReconstructIn(Strict):
    """A window of a sound, and the patches to mask."""

    sound: SoundId
    start: Start = 0.0
    mask: MaskName = "random"
    mask_ratio: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    hidden: Annotated[list[Row], Field(min_length=1, max_length=4096)] | None = Field(
        None,
        description="A mask of your own instead: true on masked patches, one row for each frequency, lowest first.",
    )


class ReconstructOut(BaseModel):
    """The reconstruction of a window."""

    hidden: list[list[bool]] = Field(description="Masked patches, lowest frequency first.")
    drawn: list[list[float]] = Field(description="Spectrogram with predicted masked patches.")
    error: float | None = Field(description="Of the model on masked patches, in units of the variance.")
    baselines: dict[str, float | None]
    sentence: str
    command: str


class ResynthesisIn(ReconstructIn):
    """A window, its mask, and which of the three spectrograms is converted to sound."""

    what: Literal["original", "masked", "reconstructed"] = "reconstructed"
    whole: bool = Field(False, description="The first 30 seconds of the sound, its windows joined.")


class AttentionIn(Strict):
    """A patch of a window."""

    sound: SoundId
    start: Start = 0.0
    row: Annotated[int, Field(ge=0, lt=4096, description="Index from the lowest frequency.")]
    column: Annotated[int, Field(ge=0, lt=4096, description="Index from the start of the window.")]
    layer: Annotated[int, Field(ge=1, le=1024)] | None = Field(None, description="From 1; default: the last one.")
    head: Annotated[int, Field(ge=1, le=1024)] | None = Field(None, description="From 1; default: the mean over heads.")


class AttentionOut(BaseModel):
    """Attention of one patch to all patches."""

    weights: list[list[float]] = Field(description="Relative to uniform attention, lowest frequency first.")
    layer: int
    head: int | None


class Status(BaseModel):
    """What this server can do."""

    model: str
    device: str
    sample_rate: int
    window_seconds: float | None
    layers: int
    heads: int
    mask_ratio: float | None
    reconstructs: bool
    reason: str = Field(description="Why the model does not reconstruct; empty when it does.")
    plays: bool = Field(description="Whether spectrograms can be converted to sound.")
    words: bool = Field(description="Whether the search takes words.")
    folder: str
    files: int
    upload_bytes: int
    upload_seconds: float
