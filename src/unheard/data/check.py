"""Find problems in a folder of sound files before training on it.

Every file is decoded once, block by block, in threads: memory does not grow with the length of a file. A file may have
several findings. The thresholds are our choice.

unreadable   not a sound file, or with samples that are not finite numbers or far outside [-1, 1]
cut          shorter or longer than its header states, damaged in the middle, or with a header that was never
             completed; what can be decoded is used
empty        holds no samples
silent       less than -70 dB of full scale between 50 and 8000 Hz, in the mean of all channels, the input of models
clipped      has clipping, see below
duplicate    decodes to the same samples as an earlier file
odd          a rate outside 8-192 kHz, shorter than 0.1 s, a constant offset above 1 % of full scale, more than two
             channels, or a peak more than 1 dB above full scale, which storage as 16 bit clips

Clipping means that more than one sample in 10,000 lies in a run of at least three equal samples at the peak of the
file. The peak must be within 0.5 dB of full scale or above it, and the signal must fall steeply from at least one end
of the run. The peaks of a slow tone do not.
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
from jaxtyping import Float32, Float64

from unheard.audio.archives.members import byte_size
from unheard.audio.decode import open_sound
from unheard.audio.folders import find_sounds
from unheard.audio.limits import LOUDEST
from unheard.audio.waveform import AudioInfo
from unheard.errors import AudioError, shown
from unheard.progress import Track, silent
from unheard.remote.listing import is_folder

KINDS = ("unreadable", "cut", "empty", "silent", "clipped", "duplicate", "odd")
BLOCK = 1 << 18  # samples of each channel decoded at once
SILENCE = 10 ** (-70 / 20)
NEAR_FULL_SCALE = 10 ** (-0.5 / 20)
CLIPPED_RUN, CLIPPED_SHARE = 3, 1e-4
TIE = 1.0001  # levels this close count as equal
# fraction of the peak by which a clipped signal falls from one sample to the next; a slow tone falls by a tenth of it
STEEP = 0.002
SHORT, OFFSET = 0.1, 0.01  # seconds, fraction of full scale
ABOVE = 10 ** (1 / 20)
BAND = (50.0, 8000.0)  # Hz; the range of the default front end
RATES = (8000, 192000)  # Hz


@dataclass
class CheckReport:
    """Result of a check.

    Parameters
    ----------
    files : int
        Number of files.
    hours : float
        Total length of the readable files.
    rates, channels, formats : dict
        Number of files with each sample rate (Hz), channel count and format.
    findings : dict of str to dict of str to str
        Kind -> path -> description. Kinds without findings are present and empty.
    """

    files: int = 0
    hours: float = 0.0
    rates: dict[int, int] = field(default_factory=dict)
    channels: dict[int, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    findings: dict[str, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    @property
    def clean(self) -> bool:
        """Return whether there are no findings."""
        return not any(self.findings.values())

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the report as text: every finding, then the totals."""
        found = [f"{kind:10}  {path}: {text}" for kind, paths in self.findings.items() for path, text in paths.items()]
        tables = [
            f"{name}: " + ", ".join(f"{value}{unit} x {count}" for value, count in sorted(table.items()))
            for name, unit, table in (
                ("rates", " Hz", self.rates),
                ("channels", " ch", self.channels),
                ("formats", "", self.formats),
            )
            if table
        ]
        counts = ", ".join(f"{len(paths)} {kind}" for kind, paths in self.findings.items())
        return [*found, f"{self.files} files, {self.hours:.2f} hours", *tables, counts]


@dataclass
class _FileReport:
    """Result of one pass over a file: its header, the digest of its samples, and findings by kind."""

    path: str
    header: AudioInfo | None = None
    digest: str = ""
    found: list[tuple[str, str]] = field(default_factory=list)


def check(folder: Path | str | Sequence[Path], track: Track = silent, workers: int | None = None) -> CheckReport:
    """Decode every sound file and report its problems.

    Parameters
    ----------
    folder : Path, or sequence of Path
        A folder, searched recursively, an archive, one file, or the files themselves (such as those of a corpus).
    workers : int, optional
        Threads. Default: one a core.

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
    paths = find_sounds(folder) if isinstance(folder, str | Path) else list(folder)
    if root is not None and not is_folder(root):
        root = root.parent
    report, first = CheckReport(files=len(paths)), dict[str, str]()
    rates, channels, formats = Counter[int](), Counter[int](), Counter[str]()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for look in track(pool.map(lambda path: _look(path, root), paths), len(paths), "files"):
            for kind, text in look.found:
                report.findings[kind][look.path] = text
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


def _look(path: Path, root: Path | None) -> _FileReport:
    """Read one file to its end."""
    look = _FileReport(shown((path.relative_to(root) if root else path).as_posix()))
    try:
        if not byte_size(path):
            look.found.append(("empty", "the file is empty"))
            return look
        measures, look.header = _measure(path)
    except (AudioError, OSError) as error:
        look.found.append(("unreadable", str(error).removeprefix(f"{shown(path)}: ").split(";")[0]))
        return look
    if not measures.samples:
        look.found.append(("empty", "no samples"))
        return look
    look.digest = measures.digest
    look.found += _findings(look.header, measures)
    return look


@dataclass
class _Measures:
    """Sums over the blocks of a file."""

    channels: int
    samples: int = 0
    peak: float = 0.0
    at_peak: int = 0
    total: Float64[np.ndarray, " C"] = field(default_factory=lambda: np.zeros(1))
    digest: str = ""
    loudest: float = 0.0
    """RMS of the loudest piece of the mean of all channels, in the frequency band of models."""


def _measure(path: Path) -> tuple[_Measures, AudioInfo]:
    """Decode a file block by block. Return its sums and its header."""
    digest = hashlib.blake2b(digest_size=16)
    with open_sound(path) as file:
        out = _Measures(file.channels, total=np.zeros(file.channels))
        digest.update(f"{file.sample_rate} {file.channels} ".encode())
        while len(block := file.read(BLOCK)):
            peak = float(np.abs(block).max())
            if not peak <= LOUDEST:
                problem = "not finite numbers" if not np.isfinite(peak) else f"far outside [-1, 1] (peak {peak:.3g})"
                raise AudioError(f"{shown(path)}: samples are {problem}")
            digest.update(np.ascontiguousarray(block).data)
            out.samples += len(block)
            out.total += block.sum(axis=0, dtype=np.float64)
            out.loudest = max(out.loudest, _in_band(block.mean(axis=1), file.sample_rate))
            if peak > out.peak * TIE:
                out.at_peak = 0  # samples counted at a lower level were not clipped
            out.peak = max(out.peak, peak)
            if out.peak >= NEAR_FULL_SCALE and peak * TIE >= out.peak:
                out.at_peak += _in_runs(block, out.peak)
        seconds = out.samples / file.sample_rate
        header = AudioInfo(
            path, seconds, file.sample_rate, file.channels, file.format, file.subtype, out.samples, file.note
        )
    out.digest = digest.hexdigest()
    return out, header


def _in_band(mono: Float32[np.ndarray, " s"], sample_rate: int) -> float:
    """Return the RMS in `BAND` of the loudest quarter of a second; for a shorter sound that of all."""
    size = max(16, sample_rate // 4)
    if len(mono) < size:
        return float(np.sqrt(np.square(mono).mean()))
    filled = mono[: len(mono) // size * size]
    parts = np.concatenate([filled.reshape(-1, size), mono[None, -size:]])  # the last one holds the rest
    window = np.hanning(size).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(parts * window, axis=1)) / np.sqrt(size * np.square(window).sum())
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    inside = (hertz >= BAND[0]) & (hertz <= BAND[1])
    return float(np.sqrt(2 * np.square(spectrum[:, inside]).sum(axis=1)).max())


def _in_runs(block: Float32[np.ndarray, "s c"], peak: float) -> int:
    """Count the samples at +-``peak`` in runs of at least `CLIPPED_RUN` that end steeply.

    Of a run across two blocks, only the part in the second block counts.
    """
    count = 0
    for sign in (1, -1):
        for channel in (sign * block).T:
            high = np.concatenate([[False], channel * TIE >= peak, [False]])
            begins, ends = np.flatnonzero(high[1:] & ~high[:-1]), np.flatnonzero(high[:-1] & ~high[1:])  # [begin, end)
            before, after = channel[np.maximum(begins - 1, 0)], channel[np.minimum(ends, len(channel) - 1)]
            steep = peak - np.minimum(before, after) >= STEEP * peak
            lengths = (ends - begins)[steep]
            count += int(lengths[lengths >= CLIPPED_RUN].sum())
    return count


def _findings(header: AudioInfo, measures: _Measures) -> list[tuple[str, str]]:
    """Return the findings of a file that was read to its end."""
    found = [("cut", header.note)] if header.note else []
    share = measures.at_peak / max(1, measures.samples * measures.channels)
    offset = float(np.abs(measures.total).max()) / max(1, measures.samples)
    if measures.loudest < SILENCE:
        cause = "; its channels cancel each other" if measures.peak >= SILENCE and measures.channels > 1 else ""
        found.append(
            (
                "silent",
                f"at most {_decibels(measures.loudest)} between 50 and 8000 Hz, peak {_decibels(measures.peak)}{cause}",
            )
        )
    if share > CLIPPED_SHARE:
        found.append(("clipped", f"{100 * share:.2g} % of the samples lie in runs at the peak of {measures.peak:.3f}"))
    odd = [
        (not RATES[0] <= header.sample_rate <= RATES[1], f"rate of {header.sample_rate} Hz"),
        (header.seconds < SHORT, f"only {1000 * header.seconds:.0f} ms long"),
        (offset > OFFSET, f"constant offset of {100 * offset:.1f} % of full scale"),
        (header.channels > 2, f"{header.channels} channels"),
        (measures.peak > ABOVE, f"peak of {measures.peak:.3g} times full scale"),
    ]
    if any(is_odd for is_odd, _ in odd):
        found.append(("odd", ", ".join(text for is_odd, text in odd if is_odd)))
    return found


def _decibels(peak: float) -> str:
    return f"{20 * np.log10(peak):.0f} dB" if peak > 0 else "0"
