"""The front ends by kind: configurations, which the field ``kind`` distinguishes, and the modules they build."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, TypeAlias

import torch
from pydantic import Discriminator, Tag

from unheard.audio.decibels import DbMinMax, DbMinMaxConfig
from unheard.audio.framing import Frontend
from unheard.audio.frontend import LogMel, LogMelConfig
from unheard.audio.kaldi import KaldiFbank, KaldiFbankConfig, MaskSpecConfig, MaskSpecMel

AnyFrontendConfig: TypeAlias = LogMelConfig | KaldiFbankConfig | MaskSpecConfig | DbMinMaxConfig


def _kind(value: Any) -> str:
    """Return the kind of a configuration or of a JSON object; log-mel when it has none."""
    return str(value.get("kind", "log-mel") if isinstance(value, dict) else value.kind)


FrontendConfig = Annotated[
    Annotated[LogMelConfig, Tag("log-mel")]
    | Annotated[KaldiFbankConfig, Tag("kaldi-fbank")]
    | Annotated[MaskSpecConfig, Tag("maskspec")]
    | Annotated[DbMinMaxConfig, Tag("db-minmax")],
    Discriminator(_kind),
]
"""Every kind of front end; all have sample_rate, hop_size, n_mels, f_min and f_max."""


FRONTENDS: dict[str, tuple[Callable[..., AnyFrontendConfig], Callable[..., Frontend]]] = {
    "log-mel": (LogMelConfig, LogMel),
    "kaldi-fbank": (KaldiFbankConfig, KaldiFbank),
    "maskspec": (MaskSpecConfig, MaskSpecMel),
    "db-minmax": (DbMinMaxConfig, DbMinMax),
}
"""Configuration and module of each kind."""


def build_frontend(config: AnyFrontendConfig) -> Frontend:
    """Build the front end of a configuration."""
    return FRONTENDS[config.kind][1](config)


@lru_cache(maxsize=4)
def frontend_on(config: AnyFrontendConfig, device: torch.device) -> Frontend:
    """Return the front end of a configuration on a device; a later call returns the same one."""
    return build_frontend(config).to(device)
