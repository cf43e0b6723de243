"""resemblyzer with one vector every 1.6 s, as a teacher (HEAR API)."""

from __future__ import annotations

from functools import partial

from benchmarks.peers import resemblyzer

get_scene_embeddings = resemblyzer.get_scene_embeddings
get_timestamp_embeddings = resemblyzer.get_timestamp_embeddings
load_model = partial(resemblyzer.load_model, hop=1.6)
