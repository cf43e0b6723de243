"""Write the description of a release with the scores of an evaluation.

    python -m benchmarks.tiny.release RESULTS.json MODEL -o release.json

RESULTS.json is the ``results-MODE.json`` of ``unheard evaluate``; MODEL is the name of the model in it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

DESCRIPTION = Path(__file__).with_name("release.json")


def with_scores(results: dict[str, Any], model: str) -> dict[str, Any]:
    """Return the description of ``release.json`` with the scores of a model."""
    rows = [row for row in results["results"] if row["encoder"] == model]
    if not rows:
        names = sorted({row["encoder"] for row in results["results"]})
        raise SystemExit(f"there is no score of {model}; the encoders are {', '.join(names)}")
    scores = [
        {"task": row["task"], "metric": row["score"], "value": row["scores"][row["score"]], "protocol": row["mode"]}
        for row in rows
    ]
    return {**json.loads(DESCRIPTION.read_text()), "scores": scores}


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("model")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.write_text(json.dumps(with_scores(json.loads(given.results.read_text()), given.model), indent=2) + "\n")


if __name__ == "__main__":
    main()
