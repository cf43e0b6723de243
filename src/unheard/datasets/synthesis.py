"""Six families of synthesised sounds: strings, bars, drums, chirps, voices and noises.

A family is a function ``(timbre, take, seconds, rate) -> Sound``. ``timbre`` is a random generator that is the same for
every clip of one instrument, ``take`` the generator of this clip. The properties of an instrument are computed from the
first, those of a performance (pitch, vowel, times, rhythm) from the second. `unheard.datasets.generate` writes files.

Every number without a source is our choice, made by listening and from spectrograms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from jaxtyping import Float

Wave = Float[np.ndarray, " _"]  # any length
Generator = np.random.Generator

BARS = {  # frequency ratios of the modes
    "glockenspiel": (
        1.0,
        2.756,
        5.404,
        8.933,
        13.34,
    ),  # free-free bar: Fletcher and Rossing, The Physics of Musical Instruments, section 2.15
    "marimba": (1.0, 3.9, 9.2),  # undercut bar: Fletcher and Rossing, section 19.3
    "bell": (0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.66, 3.0, 4.0),  # church bell: Fletcher and Rossing, table 21.1, rounded
}
VOWELS = {  # first three formants in Hz, means of adult male speakers: Peterson and Barney 1952, table II
    "ee": (270, 2290, 3010),
    "eh": (530, 1840, 2480),
    "ah": (730, 1090, 2440),
    "aw": (570, 840, 2410),
    "oo": (300, 870, 2240),
}
DRUMS = ("kick", "snare", "hat", "tom")
NOISES = ("white", "pink", "band", "wind")


@dataclass(frozen=True)
class Sound:
    """One clip: samples (float64, any level), kind, pitch (MIDI number) if it has one, onsets in seconds."""

    wav: Wave
    kind: str
    pitch: int | None
    onsets: tuple[float, ...]


Family = Callable[[Generator, Generator, float, int], Sound]


def hertz(midi: int) -> float:
    """Return the frequency in equal temperament, A4 = MIDI 69 = 440 Hz."""
    return float(440.0 * 2.0 ** ((midi - 69) / 12))


def string(timbre: Generator, take: Generator, seconds: float, rate: int) -> Sound:
    """Synthesise a plucked string (Karplus and Strong 1983), one to four strokes of the same note."""
    position, damping = timbre.uniform(0.08, 0.5), timbre.uniform(0.08, 0.4)
    decay, brightness = timbre.uniform(1.0, 5.0), timbre.uniform(0.15, 0.9)
    pitch = int(take.integers(40, 77))
    onsets = moments(take, seconds, most=4)
    notes = [
        _pluck(take, hertz(pitch), seconds - start, rate, (position, damping, decay, brightness)) for start in onsets
    ]
    return Sound(place(onsets, notes, seconds, rate), "pluck", pitch, onsets)


def _pluck(
    take: Generator, frequency: float, seconds: float, rate: int, player: tuple[float, float, float, float]
) -> Wave:
    """Synthesise one note. The loop runs at the rate where its delay is exactly one period, then is resampled to
    ``rate``.
    """
    position, damping, decay, brightness = player
    period = max(8, round(rate / frequency))
    inner_rate = (period + damping) * frequency  # the two-tap mean (1 - d) y[n-P] + d y[n-P-1] delays by P + d samples
    gain = 10 ** (-3 / (frequency * decay))
    burst = take.standard_normal(period)
    burst = brightness * burst + (1 - brightness) * _running_mean(burst, 5)
    burst -= np.roll(burst, max(1, round(position * period)))
    rounds = int(np.ceil(seconds * inner_rate / period)) + 1
    loop = np.zeros((rounds + 1, period))
    loop[1] = burst
    for turn in range(2, rounds + 1):
        before = np.concatenate([loop[turn - 2, -1:], loop[turn - 1, :-1]])
        loop[turn] = gain * ((1 - damping) * loop[turn - 1] + damping * before)
    return np.asarray(soxr.resample(loop[1:].ravel(), inner_rate, rate), dtype=np.float64)


def bar(timbre: Generator, take: Generator, seconds: float, rate: int) -> Sound:
    """Synthesise a struck bar or bell: a few inharmonic, exponentially damped modes, one to four strokes of one
    note.
    """
    kind = str(timbre.choice(list(BARS)))
    ratios = np.array(BARS[kind]) * (1 + 0.004 * timbre.standard_normal(len(BARS[kind])))
    ratios /= ratios[BARS[kind].index(1.0)]
    decay, hardness = timbre.uniform(0.5, 4.0), timbre.uniform(0.3, 0.9)
    pitch = int(take.integers(60, 92))
    frequencies = hertz(pitch) * ratios
    frequencies = frequencies[frequencies < 0.47 * rate]
    weights = hardness ** np.arange(len(frequencies)) * take.uniform(0.6, 1.0, len(frequencies))
    onsets = moments(take, seconds, most=4)
    time = _clock(seconds, rate)[:, None]
    damped = np.exp(-6.9 * time * np.sqrt(frequencies / frequencies[0]) / decay)  # -60 dB after `decay` seconds
    struck = (weights * damped * np.sin(2 * np.pi * frequencies * time)).sum(axis=1)
    return Sound(place(onsets, [struck] * len(onsets), seconds, rate), kind, pitch, onsets)


def drum(timbre: Generator, take: Generator, seconds: float, rate: int) -> Sound:
    """Synthesise one drum of a kit, one to eight hits in an almost steady rhythm."""
    size, tightness, rattle = timbre.uniform(0.75, 1.35), timbre.uniform(0.6, 1.6), timbre.uniform(0.4, 1.0)
    kind = str(take.choice(DRUMS))
    onsets = rhythm(take, seconds)
    hits = [
        _hit(kind, take, min(1.0, seconds), rate, (size, tightness, rattle)) * take.uniform(0.6, 1.0) for _ in onsets
    ]
    return Sound(place(onsets, hits, seconds, rate), kind, None, onsets)


def _hit(kind: str, take: Generator, seconds: float, rate: int, kit: tuple[float, float, float]) -> Wave:
    """Synthesise a falling tone (kick, tom), filtered noise (hat), or both (snare)."""
    size, tightness, rattle = kit
    time = _clock(seconds, rate)
    noise = take.standard_normal(len(time))
    if kind == "hat":
        return shape(noise, rate, lambda f: 1 / (1 + (5000 / size / f) ** 8)) * np.exp(-35 * tightness * time)
    low, drop, fade = {"kick": (48.0, 120.0, 9.0), "tom": (110.0, 60.0, 7.0), "snare": (185.0, 40.0, 18.0)}[kind]
    falling = low / size + drop * np.exp(-30 * time)
    tone = np.sin(2 * np.pi * np.cumsum(falling) / rate) * np.exp(-fade * tightness * time)
    if kind == "snare":
        wires = shape(noise, rate, lambda f: 1 / (1 + (900 / f) ** 4)) * np.exp(-14 * tightness * time)
        struck: Wave = tone + rattle * wires
        return struck
    beaten: Wave = tone + 0.15 * rattle * noise * np.exp(-200 * time)
    return beaten


def chirp(timbre: Generator, take: Generator, seconds: float, rate: int) -> Sound:
    """Synthesise a whistle that glides up or down, one to six times, like a bird or a signal."""
    low, octaves, ripple = timbre.uniform(300, 1500), timbre.uniform(0.7, 2.0), timbre.uniform(0, 0.08)
    overtone, speed = timbre.uniform(0, 0.4), timbre.uniform(5, 25)
    upwards = bool(take.integers(2))
    onsets = moments(take, seconds, most=6)
    lengths = np.diff([*onsets, seconds]) * take.uniform(0.5, 0.9)
    notes = []
    for length in lengths:
        time = _clock(float(np.clip(length, 0.05, 1.5)), rate)
        way = time / time[-1] if upwards else 1 - time / time[-1]
        frequency = low * 2 ** (octaves * way) * (1 + ripple * np.sin(2 * np.pi * speed * time))
        phase = 2 * np.pi * np.cumsum(frequency) / rate
        second = overtone * np.sin(2 * phase) * (2 * frequency < 0.47 * rate)
        notes.append((np.sin(phase) + second) * np.sqrt(np.abs(np.sin(np.pi * time / time[-1]))))
    return Sound(place(onsets, notes, seconds, rate), "up" if upwards else "down", None, onsets)


def voice(timbre: Generator, take: Generator, seconds: float, rate: int) -> Sound:
    """Synthesise a sung vowel: glottal pulses with vibrato through three formants, one to three syllables of one
    note.
    """
    tract, breath = timbre.uniform(0.95, 1.3), timbre.uniform(0.002, 0.03)
    tremble, speed = timbre.uniform(0.003, 0.02), timbre.uniform(4.5, 6.5)
    register = int(timbre.integers(43, 62))
    pitch, vowel = register + int(take.integers(0, 13)), str(take.choice(list(VOWELS)))
    onsets = moments(take, seconds, most=3)
    lengths = np.diff([*onsets, seconds]) * take.uniform(0.75, 0.95)
    syllables = []
    for length in lengths:
        time = _clock(float(max(length, 0.1)), rate)
        drift = 1 + tremble * np.sin(2 * np.pi * speed * time) + 0.03 * np.exp(-time / 0.05)
        pulses = _pulses(hertz(pitch) * drift, rate) + breath * take.standard_normal(len(time))
        spoken = shape(pulses, rate, lambda f: _tract(f, np.array(VOWELS[vowel]) * tract))
        syllables.append(spoken * fade(len(time), rate, 0.03, 0.08))
    return Sound(place(onsets, syllables, seconds, rate), vowel, pitch, onsets)


def _pulses(frequency: Wave, rate: int) -> Wave:
    """Return a pulse train without aliasing: the sum of all harmonics below Nyquist in closed form (Dirichlet kernel).

    It has mean 0 and peak 1.
    """
    harmonics = max(1, int(0.47 * rate / frequency.max()))
    half = np.pi * np.cumsum(frequency) / rate
    safe = np.where(np.abs(np.sin(half)) < 1e-9, 1.0, np.sin(half))
    kernel = np.where(np.abs(np.sin(half)) < 1e-9, 2 * harmonics + 1, np.sin((2 * harmonics + 1) * half) / safe)
    return (kernel - 1) / (2 * harmonics)


def _tract(f: Wave, formants: Float[np.ndarray, " 3"]) -> Wave:
    """Return the gain of a vocal tract: -6 dB an octave (glottis and lips), times one resonance for each formant.

    The strength of the resonances falls from formant to formant.
    """
    widths = 50 + 0.06 * formants
    gains = np.array([1.0, 0.5, 0.25])
    peaks = gains / np.sqrt(1 + ((f[:, None] - formants) / widths) ** 2)
    return np.asarray((peaks.sum(axis=1) + 0.01) / np.sqrt(1 + (f / 200) ** 2))


def noise(timbre: Generator, take: Generator, seconds: float, rate: int) -> Sound:
    """Synthesise steady or blowing noise: white, pink, one band, or wind."""
    kind = NOISES[int(timbre.integers(len(NOISES)))]
    centre, width = timbre.uniform(300, 3000), timbre.uniform(0.15, 0.6)
    onset = float(take.uniform(0, 0.2 * seconds))
    time = _clock(seconds - onset, rate)
    white = take.standard_normal(len(time))
    responses: dict[str, Callable[[Wave], Wave]] = {
        "white": lambda f: np.ones_like(f),
        "pink": lambda f: f**-0.5,
        "band": lambda f: np.exp(-0.5 * (np.log2(f / centre) / width) ** 2),
        "wind": lambda f: 1 / (f + 30) * (1 + 3 * np.exp(-0.5 * (np.log2(f / (centre / 3)) / 0.3) ** 2)),
    }
    shaped = shape(white, rate, responses[kind])
    if kind == "wind":
        gusts = shape(take.standard_normal(len(time)), rate, lambda f: 1 / (1 + (f / 1.5) ** 4))
        shaped = shaped * (0.15 + np.abs(gusts) / (np.abs(gusts).max() + 1e-12))
    onsets = (onset,)
    return Sound(place(onsets, [shaped * fade(len(time), rate, 0.02, 0.05)], seconds, rate), kind, None, onsets)


FAMILIES: dict[str, Family] = {
    "string": string,
    "bar": bar,
    "drum": drum,
    "chirp": chirp,
    "voice": voice,
    "noise": noise,
}


def moments(take: Generator, seconds: float, most: int) -> tuple[float, ...]:
    """Return one to ``most`` onsets, at least 0.25 s apart and 0.25 s before the end; the first is early."""
    count = int(take.integers(1, max(1, min(most, int(seconds / 0.5))) + 1))
    starts = take.uniform(0, 0.25 * seconds / count) + np.arange(count) * seconds / count
    jitter = take.uniform(0, 0.2, count) * seconds / count * (np.arange(count) > 0)
    return tuple(float(start) for start in starts + jitter)


def rhythm(take: Generator, seconds: float) -> tuple[float, ...]:
    """Return one to eight onsets at a steady tempo, each up to 10 ms off the beat."""
    beat, first = take.uniform(0.12, 0.6), take.uniform(0, 0.1)
    count = int(take.integers(1, max(1, min(8, int((seconds - first - 0.1) / beat))) + 1))
    return tuple(float(first + index * beat + off) for index, off in enumerate(take.uniform(0, 0.01, count)))


def place(onsets: Sequence[float], notes: Sequence[Wave], seconds: float, rate: int) -> Wave:
    """Add the notes at their onsets and fade the last 10 ms."""
    out = np.zeros(round(seconds * rate))
    for onset, note in zip(onsets, notes, strict=True):
        start = round(onset * rate)
        piece = note[: len(out) - start]
        out[start : start + len(piece)] += piece
    faded: Wave = out * fade(len(out), rate, 0.0, 0.01)
    return faded


def shape(signal: Wave, rate: int, gain: Callable[[Wave], Wave]) -> Wave:
    """Filter with a zero-phase gain over frequency (Hz); remove the constant part and scale the mean square to 1."""
    spectrum = np.fft.rfft(signal)
    frequencies = np.fft.rfftfreq(len(signal), 1 / rate).astype(np.float64)
    spectrum[0] = 0
    spectrum[1:] *= gain(frequencies[1:])
    out = np.fft.irfft(spectrum, len(signal))
    return np.asarray(out / (np.sqrt(np.mean(out**2)) + 1e-12))


def fade(length: int, rate: int, rise: float, fall: float) -> Wave:
    """Return a gain of 1 with a linear rise and fall of so many seconds at the ends."""
    index = np.arange(length)
    return np.minimum(
        np.clip((index + 1) / max(1.0, rise * rate), 0, 1), np.clip((length - index) / max(1.0, fall * rate), 0, 1)
    )


def _clock(seconds: float, rate: int) -> Wave:
    return np.arange(max(2, round(seconds * rate))) / rate


def _running_mean(signal: Wave, width: int) -> Wave:
    return np.convolve(signal, np.ones(width) / width, mode="same")
