"""Bodies of requests and responses of search, map, labels and spans."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from unheard.serving.schemas import SoundId, Start, Strict

ClassName = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^|\x00-\x1f]*[^|\s\x00-\x1f][^|\x00-\x1f]*$")]


class FolderState(BaseModel):
    """How far the embedding of FOLDER is."""

    state: Literal["none", "embedding", "ready", "failed"]
    done: int = 0
    total: int = 0
    skipped: list[list[str]] = Field(default=[], description="Name and reason of files that cannot be read.")
    error: str = ""


class Part(Strict):
    """A sound, or its part from start to end in seconds."""

    sound: SoundId
    start: Start = 0.0
    end: Start | None = None

    @model_validator(mode="after")
    def _ends_later(self) -> Part:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"the part ends at {self.end:g} s, which is not after its start at {self.start:g} s")
        return self


class EmbedOut(BaseModel):
    """The scene embedding of a sound."""

    model: str
    vector: list[float]


class NeighboursIn(Strict):
    """Examples and counter-examples, or words."""

    like: list[Part] = Field([], max_length=64)
    unlike: list[Part] = Field([], max_length=64)
    words: Annotated[str, Field(max_length=200)] = Field("", description="Only for a model trained with captions.")
    k: Annotated[int, Field(ge=1, le=1000)] = 20


class Hit(BaseModel):
    """A file of FOLDER, with its similarity from -1 to 1."""

    id: str
    name: str
    folder: str
    score: float


class Hits(BaseModel):
    """Similar files, the best first."""

    hits: list[Hit]


class Point(BaseModel):
    """A file on the map."""

    id: str
    name: str
    folder: str
    label: str
    cluster: int
    pca: list[float]
    tsne: list[float]


class MapOut(BaseModel):
    """Files of FOLDER in two dimensions; at most 2000, selected at random."""

    points: list[Point]
    total: int = Field(description="Files of FOLDER with an embedding.")
    variance: float = Field(description="Fraction of the variance that the two principal components explain.")


class ConceptIn(Strict):
    """A class, and how to begin: the examples of a search."""

    name: ClassName
    examples: list[Part] = Field([], max_length=64)


class AnswerIn(Strict):
    """An answer: does the file have the class?"""

    name: ClassName
    sound: SoundId
    answer: Literal["yes", "no", "skip"]


class NameIn(Strict):
    """The name of a class."""

    name: ClassName


class ClipOut(BaseModel):
    """The next clip to label."""

    id: str
    name: str
    score: float | None = Field(description="Probability of the class by the fitted head; null before the first fit.")


class HeadOut(BaseModel):
    """A fitted linear head, scored on labelled clips by cross-validation at its threshold."""

    clips: int
    precision: float | None
    recall: float | None
    true_positives: int
    predicted: int
    threshold: float = Field(description="Probability from which on a clip is detected.")
    detected: int = Field(description="Clips without an answer that reach the threshold.")
    expected: float | None = Field(description="Expected precision on these clips; null if there are none.")


class LabelState(BaseModel):
    """Labels of one class."""

    name: str
    yes: int
    no: int
    skipped: int
    until_fit: int = Field(description="Labels that are missing until the next fit.")
    next: ClipOut | None
    head: HeadOut | None
    file: str
    message: str = ""


class Saved(BaseModel):
    """A saved classifier."""

    folder: str
    labels: list[str]
    command: str


class ClassifierOut(BaseModel):
    """A classifier that detects."""

    id: str
    name: str
    labels: list[str]
    thresholds: list[float | None] = Field(description="Stored with the classifier, for each class; may be empty.")
    window: float


class SpansIn(Strict):
    """A recording and a classifier."""

    sound: SoundId
    classifier: Annotated[str, Field(max_length=100)]
    threshold: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | Literal["auto"] = Field(
        0.5, description="auto: the thresholds that are stored with the classifier."
    )
    min_duration: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 0.0
    hop: Annotated[float, Field(ge=0.05, le=60, allow_inf_nan=False)] | None = None


class ExportIn(SpansIn):
    """Detections as a file."""

    format: Literal["csv", "raven", "audacity"] = "csv"


class SpanOut(BaseModel):
    """A detection, times in seconds."""

    start: float
    end: float
    label: str
    score: float


class SpansOut(BaseModel):
    """Detections and the scores of all windows."""

    seconds: float = Field(description="Length that was scored, from the start.")
    total: float = Field(description="Length of the recording.")
    labels: list[str]
    thresholds: list[float] = Field(description="Of each class, as used.")
    spans: list[SpanOut]
    times: list[float] = Field(description="Centre of each window in seconds.")
    scores: list[list[float]] = Field(description="Windows x classes.")
    command: str


class Overview(BaseModel):
    """The log-mel spectrogram of a part of a sound, reduced to a width."""

    start: float
    seconds: float
    total: float
    hop_seconds: float
    mel_hz: list[float]
    spec: list[list[float]]
