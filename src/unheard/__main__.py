"""``python -m unheard`` is ``unheard``."""

from __future__ import annotations

import sys

from unheard.cli import main

sys.exit(main())
