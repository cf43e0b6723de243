"""The HEAR 2021 common API over any model of this library; evaluators import this module by name.

load_model(path)  get_timestamp_embeddings(audio, model)  get_scene_embeddings(audio, model)
"""

from unheard.embedding.hear_api import HearModel, get_scene_embeddings, get_timestamp_embeddings, load_model

__all__ = ["HearModel", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]
