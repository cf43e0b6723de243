"""``python -m benchmarks.parity FOLDER...``: compare every stored output of reference folders with ours."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.parity import audiomae, bat, eat, hear, maskspec, matpac, msm_mae
from benchmarks.parity.compare import Comparison

SYSTEMS = (msm_mae, matpac, audiomae, maskspec, hear, eat, bat)


def main(folders: list[str]) -> int:
    """Compare and return the exit status."""
    table = Comparison()
    if any(hear.fits(Path(name)) for name in folders):
        hear.prepare()
    for name in folders:
        folder = Path(name)
        system = next((system for system in SYSTEMS if system.fits(folder)), None)
        if system is None:
            print(f"unheard: {folder} holds no reference outputs of a known format", file=sys.stderr)
            return 2
        table.folder(str(folder))
        system.compare(folder, table)
    return table.last_line()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
