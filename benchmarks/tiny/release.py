"""Write the description of a release with its teachers and the scores of an evaluation.

    python -m benchmarks.tiny.release RESULTS.json... MODEL --teachers yamnet crepe -o release.json

RESULTS.json is the ``results-MODE.json`` of ``unheard evaluate``, several for embeddings with different options; MODEL
is the name of the model in them. The teachers are modules of this folder; the file ``release.json`` describes them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DESCRIPTION = Path(__file__).with_name("release.json")


def described(results: Sequence[dict[str, Any]], model: str, teachers: Sequence[str]) -> dict[str, Any]:
    """Return the description of ``release.json`` with the teachers and the scores of a model."""
    description = json.loads(DESCRIPTION.read_text())
    known = {each["name"].lower(): each for each in description["teachers"]}
    if unknown := [name for name in teachers if name not in known]:
        raise SystemExit(f"{DESCRIPTION} does not describe the teacher {unknown[0]}; it has {', '.join(known)}")
    every = [row for each in results for row in each["results"]]
    rows = [row for row in every if row["encoder"] == model]
    if not rows:
        names = sorted({row["encoder"] for row in every})
        raise SystemExit(f"there is no score of {model}; the encoders are {', '.join(names)}")
    scores = [
        {"task": row["task"], "metric": row["score"], "value": row["scores"][row["score"]], "protocol": _protocol(row)}
        for row in rows
    ]
    return {**description, "teachers": [known[name] for name in teachers], "scores": scores}


def _protocol(row: dict[str, Any]) -> str:
    """Return the mode, and the options of the command line that differ from the defaults."""
    layers, pool = row["options"].get("layer") or [], row["options"].get("pool", "mean")
    flags = [f"--layer {number}" for number in (layers if isinstance(layers, list) else [layers])]
    return " ".join([row["mode"], *flags, *([] if pool == "mean" else [f"--pool {pool}"])])


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("model")
    parser.add_argument("--teachers", nargs="+", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    description = described([json.loads(each.read_text()) for each in given.results], given.model, given.teachers)
    given.out.write_text(json.dumps(description, indent=2) + "\n")


if __name__ == "__main__":
    main()
