"""The command line: ``unheard VERB``, in the words of the Python verbs.

Only the shell is imported at once; every verb loads what it needs when it runs, so that ``--help`` stays fast.
"""

from __future__ import annotations

from unheard.cli.main import main

__all__ = ["main"]
