"""What is wrong with a folder of sound files, before anything is trained on it.

Every file is decoded once, block by block, in threads: memory does not grow with the length of a file. The kinds of findings:

unreadable   not a sound file, shorter than its header says, or with samples that are not finite numbers
empty        holds no samples
silent       no sample above -70 dB of full scale
clipped      more than one sample in 10,000 lies in a run of at least three equal samples at the file's own peak, and that peak is within
             0.5 dB of full scale or beyond it
duplicate    decodes to the same samples as an earlier file
odd          a rate outside 8-192 kHz, shorter than 0.1 s, a constant offset above 1 % of full scale, more than two channels, or a
             header (of mp3 or ogg) that is more than 50 ms wrong about the length

The thresholds are our choice. A file may be found more than once.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float32
from numpy.typing import NDArray

from unheard.audio.waveform import AudioInfo, find_audio, info
from unheard.errors import AudioError
from unheard.progress import Track, silent

KINDS = ("unreadable", "empty", "silent", "clipped", "duplicate", "odd")
BLOCK = 1 << 18  # samples of each channel decoded at once
SILENCE = 10 ** (-70 / 20)
NEAR_FULL_SCALE = 10 ** (-0.5 / 20)
CLIPPED_RUN, CLIPPED_SHARE = 3, 1e-4
TIE = 1.0001  # levels this close count as equal
SHORT, OFFSET, LENGTH = 0.1, 0.01, 0.05  # seconds, share of full scale, seconds
LOOSE = ("MP3", "OGG")  # formats whose header only estimates the length; `unheard.audio.waveform.read` takes what comes
RATES = (8000, 192000)  # Hz


@dataclass
class CheckReport:
    """What a check found.

    Parameters
    ----------
    files : int
        Files that were looked at.
    hours : float
        Of those that could be read.
    rates, channels, formats : dict
        How many files have which sample rate (Hz), channel count and format.
    findings : dict of str to dict of str to str
        Kind -> path -> what exactly. Kinds without findings are there and empty.
    """

    files: int = 0
    hours: float = 0.0
    rates: dict[int, int] = field(default_factory=dict)
    channels: dict[int, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    findings: dict[str, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not any(self.findings.values())

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report for people: every finding, then the totals."""
        found = [f"{kind:10}  {path}: {what}" for kind, paths in self.findings.items() for path, what in paths.items()]
        tables = [
            f"{name}: " + ", ".join(f"{value}{unit} x {count}" for value, count in sorted(table.items()))
            for name, unit, table in (("rates", " Hz", self.rates), ("channels", " ch", self.channels), ("formats", "", self.formats))
            if table
        ]
        counts = ", ".join(f"{len(paths)} {kind}" for kind, paths in self.findings.items())
        return [*found, f"{self.files} files, {self.hours:.2f} hours", *tables, counts]


@dataclass
class _Look:
    """What one pass over a file gave: its header, the digest of its samples, and findings by kind."""

    path: str
    header: AudioInfo | None = None
    digest: str = ""
    found: list[tuple[str, str]] = field(default_factory=list)


def check(folder: Path | str | Sequence[Path], track: Track = silent, workers: int | None = None) -> CheckReport:
    """Decode every sound file and report what is wrong with it.

    Parameters
    ----------
    folder : Path, or sequence of Path
        A folder, searched to its depths, or the files themselves (such as those of a corpus).
    workers : int, optional
        Threads; default one a core.

    Raises
    ------
    DataError
        When the folder does not exist.

    Examples
    --------
    >>> check("my_audio").lines()[-1]  # doctest: +SKIP
    '0 unreadable, 0 empty, 1 silent, 0 clipped, 2 duplicate, 0 odd'
    """
    root = Path(folder) if isinstance(folder, str | Path) else None
    paths = list(folder) if not isinstance(folder, str | Path) else find_audio(folder)
    report, first = CheckReport(files=len(paths)), dict[str, str]()
    rates, channels, formats = Counter[int](), Counter[int](), Counter[str]()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for look in track(pool.map(lambda path: _look(path, root), paths), len(paths), "files"):
            for kind, what in look.found:
                report.findings[kind][look.path] = what
            if look.header is None:
                continue
            report.hours += look.header.seconds / 3600
            rates[look.header.sample_rate] += 1
            channels[look.header.channels] += 1
            formats[f"{look.header.format} {look.header.subtype}"] += 1
            if look.digest and first.setdefault(look.digest, look.path) != look.path:
                report.findings["duplicate"][look.path] = f"same samples as {first[look.digest]}"
    report.rates, report.channels, report.formats = dict(rates), dict(channels), dict(formats)
    return report


def _look(path: Path, root: Path | None) -> _Look:
    """Read one file to its end."""
    look = _Look((path.relative_to(root) if root else path).as_posix())
    try:
        if not path.stat().st_size:
            raise AudioError("the file has no bytes")
        look.header = info(path)
        if look.header.frames == 0:
            look.found.append(("empty", "no samples"))
            return look
        measures = _measure(path)
    except (AudioError, OSError, RuntimeError) as error:
        kind = "empty" if "no bytes" in str(error) else "unreadable"
        look.found.append((kind, str(error).removeprefix(f"{path}: ").split(";")[0]))
        look.header = None
        return look
    look.digest = measures.digest
    look.found += _judge(look.header, measures)
    return look


@dataclass
class _Measures:
    """Sums over the blocks of a file."""

    channels: int
    samples: int = 0
    peak: float = 0.0
    at_peak: int = 0
    total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    digest: str = ""
    finite: bool = True


def _measure(path: Path) -> _Measures:
    """Decode a file block by block."""
    digest = hashlib.blake2b(digest_size=16)
    with soundfile.SoundFile(path) as file:
        out = _Measures(file.channels, total=np.zeros(file.channels))
        digest.update(f"{file.samplerate} {file.channels} ".encode())
        while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
            digest.update(np.ascontiguousarray(block).data)
            out.samples += len(block)
            out.total += block.sum(axis=0, dtype=np.float64)
            peak = float(np.abs(block).max())
            if not np.isfinite(peak):
                out.finite = False
                break
            if peak > out.peak * TIE:
                out.at_peak = 0  # what was counted at a lower level was no clipping
            out.peak = max(out.peak, peak)
            if out.peak >= NEAR_FULL_SCALE and peak * TIE >= out.peak:
                out.at_peak += _in_runs(block, out.peak)
    out.digest = digest.hexdigest()
    return out


def _in_runs(block: Float32[np.ndarray, "s c"], peak: float) -> int:
    """Samples at +-``peak`` in runs of at least `CLIPPED_RUN`; runs across a block's end count from the end on."""
    if len(block) < CLIPPED_RUN:
        return 0
    count = 0
    for sign in (1, -1):
        high = sign * block * TIE >= peak
        run = high[: len(high) - CLIPPED_RUN + 1].copy()
        for shift in range(1, CLIPPED_RUN):
            run &= high[shift : len(high) - CLIPPED_RUN + 1 + shift]
        covered = np.zeros_like(high)
        for shift in range(CLIPPED_RUN):
            covered[shift : len(run) + shift] |= run
        count += int(covered.sum())
    return count


def _judge(header: AudioInfo, measures: _Measures) -> list[tuple[str, str]]:
    """Findings of a file that was read to its end."""
    if not measures.finite:
        return [("unreadable", "samples that are not finite numbers")]
    gap = header.frames - measures.samples
    if gap > 0 and header.format not in LOOSE:
        return [("unreadable", f"breaks off, {header.frames} samples were announced and {measures.samples} came")]
    found = []
    share = measures.at_peak / max(1, measures.samples * measures.channels)
    offset = float(np.abs(measures.total).max()) / max(1, measures.samples)
    if measures.peak < SILENCE:
        found.append(("silent", f"peak {_decibels(measures.peak)}"))
    if share > CLIPPED_SHARE:
        found.append(("clipped", f"{100 * share:.2g} % of the samples lie in runs at the peak of {measures.peak:.3f}"))
    odd = [
        (not RATES[0] <= header.sample_rate <= RATES[1], f"rate of {header.sample_rate} Hz"),
        (header.seconds < SHORT, f"only {1000 * header.seconds:.0f} ms long"),
        (offset > OFFSET, f"constant offset of {100 * offset:.1f} % of full scale"),
        (header.channels > 2, f"{header.channels} channels"),
        (abs(gap) > LENGTH * header.sample_rate, f"{measures.samples} samples came, the header says {header.frames}"),
    ]
    if any(is_odd for is_odd, _ in odd):
        found.append(("odd", ", ".join(what for is_odd, what in odd if is_odd)))
    return found


def _decibels(peak: float) -> str:
    return f"{20 * np.log10(peak):.0f} dB" if peak > 0 else "0"
