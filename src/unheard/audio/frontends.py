"""The front ends by kind: configurations with a field ``kind`` that tells them apart, and the modules they build."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from unheard.audio.framing import Frontend
from unheard.audio.frontend import LogMel, LogMelConfig
from unheard.audio.kaldi import KaldiFbank, KaldiFbankConfig, MaskSpecConfig, MaskSpecMel

AnyFrontendConfig: TypeAlias = LogMelConfig | KaldiFbankConfig | MaskSpecConfig
FrontendConfig = Annotated[AnyFrontendConfig, Field(discriminator="kind")]
"""Every kind of front end; all have sample_rate, hop_size, n_mels, f_min, f_max."""


def build_frontend(config: AnyFrontendConfig) -> Frontend:
    """The front end that a configuration describes."""
    if isinstance(config, KaldiFbankConfig):
        return KaldiFbank(config)
    if isinstance(config, MaskSpecConfig):
        return MaskSpecMel(config)
    return LogMel(config)
