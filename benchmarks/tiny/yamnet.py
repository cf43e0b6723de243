"""YAMNet with one vector every 0.48 s, as a teacher (HEAR API)."""

from __future__ import annotations

from functools import partial

from benchmarks.peers import yamnet

get_scene_embeddings = yamnet.get_scene_embeddings
get_timestamp_embeddings = yamnet.get_timestamp_embeddings
load_model = partial(yamnet.load_model, hop=0.48)
