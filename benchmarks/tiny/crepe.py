"""CREPE with one vector every 0.16 s, as a teacher (HEAR API)."""

from __future__ import annotations

from functools import partial

from benchmarks.peers import crepe

get_scene_embeddings = crepe.get_scene_embeddings
get_timestamp_embeddings = crepe.get_timestamp_embeddings
load_model = partial(crepe.load_model, hop=0.16)
