"""Labels by questions, and the classifier that they give."""

from __future__ import annotations

import re
import shlex

from fastapi import APIRouter

from unheard.errors import shown
from unheard.evaluation.probe.fitted_head import save_head
from unheard.serving.routes.context import ERRORS, Bench
from unheard.serving.routes.searching import vectors_of
from unheard.serving.schemas_search import AnswerIn, ConceptIn, LabelState, NameIn, Saved
from unheard.serving.workbench import Workbench

router = APIRouter(prefix="/api", tags=["labels"], responses=ERRORS)

ANSWERS = {"yes": True, "no": False, "skip": None}


@router.get("/labels")
async def labels(bench: Bench) -> dict[str, dict[str, int]]:
    """Return the number of clips with and without each class."""
    given = await bench.jobs.run(lambda: bench.label_file.answers)
    return {name: {"yes": sum(each.values()), "no": len(each) - sum(each.values())} for name, each in given.items()}


@router.post("/labels")
async def begin(asked: ConceptIn, bench: Bench) -> LabelState:
    """Begin a class with the clips that are similar to examples, or continue it."""
    return await bench.jobs.run(
        lambda: bench.labelling.begin(
            asked.name.strip(), vectors_of(bench, asked.examples), [part.sound for part in asked.examples]
        )
    )


@router.post("/labels/answer")
async def answer(asked: AnswerIn, bench: Bench) -> LabelState:
    """Store whether a file has the class; after every twenty answers the head is fitted."""
    return await bench.jobs.run(lambda: bench.labelling.answer(asked.name.strip(), asked.sound, ANSWERS[asked.answer]))


@router.post("/labels/undo")
async def undo(asked: NameIn, bench: Bench) -> LabelState:
    """Take back the latest answer of a class."""
    return await bench.jobs.run(lambda: bench.labelling.undo(asked.name.strip()))


@router.post("/labels/save")
async def save(bench: Bench) -> Saved:
    """Fit a head on all labels, and save it with the encoder as a model folder next to the labels."""
    return await bench.jobs.run(_save, bench)


def _save(bench: Workbench) -> Saved:
    head = bench.labelling.head()
    name = re.sub(r"[^\w-]+", "-", f"{bench.labels.stem}-classifier").strip("-")
    place = bench.detections.path(name)
    save_head(bench.own, head, place, overwrite=True)
    bench.detections.forget(name)
    command = shlex.join(["unheard", "predict", str(place), "recording.wav", "--spans", "--threshold", "auto"])
    return Saved(folder=shown(place.name), labels=list(head.labels), command=shown(command))
