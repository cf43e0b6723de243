"""Registers the models of this package with Hugging Face transformers: ``import unheard.hf``.

``AutoModel``, ``AutoModelForAudioClassification``, ``AutoFeatureExtractor`` and ``pipeline`` then load the folders that
``unheard export MODEL -o hf_dir/`` writes.
"""

from unheard.errors import require

require("transformers", "hf")

from unheard.weights.export.hf_model import (  # noqa: E402
    UnheardConfig,
    UnheardFeatureExtractor,
    UnheardForAudioClassification,
    UnheardModel,
)

__all__ = ["UnheardConfig", "UnheardFeatureExtractor", "UnheardForAudioClassification", "UnheardModel"]
