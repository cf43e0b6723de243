"""Folders of tiny audio encoders of transformers with random weights, saved as a user would have them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
CONVOLUTIONS = {
    **{"conv_dim": [8] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2]},
    **{"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2},
}
CONVOLUTIONAL = {
    "wav2vec2": "Wav2Vec2",
    "hubert": "Hubert",
    "wavlm": "WavLM",
    "data2vec-audio": "Data2VecAudio",
    "unispeech": "UniSpeech",
    "unispeech-sat": "UniSpeechSat",
    "sew": "SEW",
    "wav2vec2-conformer": "Wav2Vec2Conformer",
}
"""Types of convolutional encoders, and the names of their classes in transformers."""


def save_hf_model(kind: str, folder: Path) -> Path:
    """Save a tiny encoder of a type, and its feature extractor."""
    import transformers

    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a filter without a bin
        torch.manual_seed(0)
        model, extractor = _made(kind, transformers)
    with torch.no_grad():
        for parameter in model.parameters():  # of transformers' own size, the layers would hardly change their input
            parameter.mul_(3)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def _made(kind: str, transformers: Any) -> tuple[Any, Any]:
    if kind == "audio-spectrogram-transformer":
        config = transformers.ASTConfig(max_length=128, **SMALL)
        return transformers.ASTModel(config), transformers.ASTFeatureExtractor(max_length=128)
    if kind == "whisper":
        sizes = {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
        tokens = {
            "vocab_size": 50,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        }
        config = transformers.WhisperConfig(
            d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16, max_source_positions=100, **sizes, **tokens
        )
        return transformers.WhisperModel(config), transformers.WhisperFeatureExtractor(chunk_length=2)
    name = CONVOLUTIONAL[kind]
    config = getattr(transformers, f"{name}Config")(**SMALL, **CONVOLUTIONS)
    return getattr(transformers, f"{name}Model")(config), transformers.Wav2Vec2FeatureExtractor()
