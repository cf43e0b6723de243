"""Write the description of a release with its teachers and the scores of an evaluation.

    python -m benchmarks.tiny.release RESULTS.json MODEL --teachers yamnet crepe -o release.json

RESULTS.json is the ``results-MODE.json`` of ``unheard evaluate``; MODEL is the name of the model in it. The teachers
are modules of this folder; the file ``release.json`` describes them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DESCRIPTION = Path(__file__).with_name("release.json")


def described(results: dict[str, Any], model: str, teachers: Sequence[str]) -> dict[str, Any]:
    """Return the description of ``release.json`` with the teachers and the scores of a model."""
    description = json.loads(DESCRIPTION.read_text())
    known = {each["name"].lower(): each for each in description["teachers"]}
    if unknown := [name for name in teachers if name not in known]:
        raise SystemExit(f"{DESCRIPTION} does not describe the teacher {unknown[0]}; it has {', '.join(known)}")
    rows = [row for row in results["results"] if row["encoder"] == model]
    if not rows:
        names = sorted({row["encoder"] for row in results["results"]})
        raise SystemExit(f"there is no score of {model}; the encoders are {', '.join(names)}")
    scores = [
        {"task": row["task"], "metric": row["score"], "value": row["scores"][row["score"]], "protocol": row["mode"]}
        for row in rows
    ]
    return {**description, "teachers": [known[name] for name in teachers], "scores": scores}


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("model")
    parser.add_argument("--teachers", nargs="+", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    description = described(json.loads(given.results.read_text()), given.model, given.teachers)
    given.out.write_text(json.dumps(description, indent=2) + "\n")


if __name__ == "__main__":
    main()
