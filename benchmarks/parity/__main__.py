"""``python -m benchmarks.parity FOLDER...``: compare every stored output of reference folders with ours."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.parity.compare import Comparison
from benchmarks.parity.folders import compare_folder, system_of


def main(names: list[str]) -> int:
    """Compare each folder in a process of its own, and return the exit status."""
    folders, total = [Path(name) for name in names], Comparison()
    if unknown := [folder for folder in folders if system_of(folder) is None]:
        print(f"unheard: {unknown[0]} holds no reference outputs of a known format", file=sys.stderr)
        return 2
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        for table in processes.map(compare_folder, folders):
            total.add(table)
    return total.last_line()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
