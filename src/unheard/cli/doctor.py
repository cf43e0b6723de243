"""Check of the installation: versions, device, formats, extras and a self-test."""

from __future__ import annotations

import platform
import re
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np
import soundfile
import torch

from unheard.audio.suffixes import AUDIO_SUFFIXES
from unheard.devices import bf16_on_cpu, torch_device
from unheard.embedding.loading import load_own
from unheard.errors import UnheardError
from unheard.version import __version__

CORE = ("torch", "numpy", "soundfile", "soxr", "safetensors", "pydantic", "cyclopts", "lightning-fabric", "pyarrow")
FORMATS = {
    **{
        ".wav": "WAV",
        ".flac": "FLAC",
        ".ogg": "OGG",
        ".oga": "OGG",
        ".opus": "OPUS",
        ".mp3": "MP3",
        ".aif": "AIFF",
        ".aiff": "AIFF",
    },
    **{".aifc": "AIFF", ".au": "AU", ".snd": "AU", ".w64": "W64", ".caf": "CAF"},
}


@dataclass(frozen=True)
class Health:
    """Result of `examine`.

    Parameters
    ----------
    versions : dict of str to str
    device : str
        Default device.
    device_name : str
    bf16 : bool
        Whether the device supports bfloat16 in hardware.
    formats : dict of str to bool
        File name ending -> readable.
    extras : dict of str to list of str
        Extra -> missing packages.
    self_test : str
        Error message; empty if the self-test passed.
    """

    versions: dict[str, str]
    device: str
    device_name: str
    bf16: bool
    formats: dict[str, bool]
    extras: dict[str, list[str]]
    self_test: str

    @property
    def well(self) -> bool:
        """Whether the self-test passed and every format is readable."""
        return not self.self_test and all(self.formats.values())

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return asdict(self) | {"well": self.well}

    def lines(self) -> list[str]:
        """Return the result as lines of text."""
        readable = [suffix for suffix, works in self.formats.items() if works]
        unreadable = [suffix for suffix, works in self.formats.items() if not works]
        return [
            f"versions   {', '.join(f'{name} {version}' for name, version in self.versions.items())}",
            f"device     {self.device} ({self.device_name}), bfloat16 {'yes' if self.bf16 else 'no'}",
            f"formats    {' '.join(readable)}{f'; not readable: {chr(32).join(unreadable)}' if unreadable else ''}",
            *(f"extra      {name}: {_state(name, missing)}" for name, missing in self.extras.items()),
            f"self-test  {self.self_test or 'passed'}",
        ]


def examine() -> Health:
    """Check versions, device, formats and extras, and embed half a second of noise."""
    device = torch_device("auto")
    return Health(
        versions={
            "unheard": __version__,
            "python": platform.python_version(),
            **{name: _version(name) or "missing" for name in CORE},
        },
        device=device,
        device_name=torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        bf16=torch.cuda.is_bf16_supported(including_emulation=False)
        if device == "cuda"
        else device == "cpu" and bf16_on_cpu(),
        formats=_formats(),
        extras=_extras(),
        self_test=_self_test(device),
    )


def _formats() -> dict[str, bool]:
    """Return which file name endings libsndfile decodes; it treats opus as a codec of ogg."""
    known = set(soundfile.available_formats()) | set(soundfile.available_subtypes("OGG"))
    return {suffix: FORMATS[suffix] in known for suffix in sorted(AUDIO_SUFFIXES)}


def _extras() -> dict[str, list[str]]:
    """Return the missing packages of each extra; extras that combine other extras are omitted."""
    found: dict[str, list[str]] = {}
    try:
        required = metadata.requires("unheard") or []
    except metadata.PackageNotFoundError:
        return found
    for line in required:
        package, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if package is None or extra is None or package[0] == "unheard" or extra[1] == "dev":
            continue
        missing = found.setdefault(extra[1], [])
        if _version(package[0]) is None:
            missing.append(package[0])
    return found


def _state(extra: str, missing: list[str]) -> str:
    return f"lacks {', '.join(missing)}; install with: pip install 'unheard[{extra}]'" if missing else "installed"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _self_test(device: str) -> str:
    """Embed half a second of noise with the smallest model."""
    noise = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    try:
        scene = load_own("random-tiny", device).embed((noise, 16000)).scene
    except (UnheardError, RuntimeError) as error:
        return str(error)
    return "" if np.isfinite(scene).all() else "the embedding of noise is not finite"
