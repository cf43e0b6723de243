"""The command line ``unheard COMMAND``, with the names of the Python functions.

Every command imports its dependencies when it runs, so that ``--help`` is fast.
"""

from __future__ import annotations

from unheard.cli.main import main

__all__ = ["main"]
