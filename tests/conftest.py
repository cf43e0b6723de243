"""Set up before anything of the library is imported: shapes are checked on every call, and one thread keeps runs repeatable."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook("unheard", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

# No deadlines: a loaded machine is not a bug. Derandomised: the same examples on every machine.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=40, database=None)
settings.load_profile("house")
