"""The HEAR 2021 common API for all models of this library; evaluators import this module as ``unheard.hear``."""

from unheard.embedding.hear_api import HearModel, get_scene_embeddings, get_timestamp_embeddings, load_model

__all__ = ["HearModel", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]
