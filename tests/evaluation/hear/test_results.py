"""Tables show who failed, and published numbers of the same task alone."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest

from unheard.evaluation.comparison import marked_cells, near_best
from unheard.evaluation.hear.results import markdown, published
from unheard.evaluation.report import Report, Result
from unheard.evaluation.results import as_json

HEAR = {  # as hear-preprocess names its folders: what published rows call the task, and its first score
    "beehive_states_fold0-v2-full": ("beehive_states", "aucroc"),
    "beehive_states_fold1-v2-full": ("beehive_states", "aucroc"),
    "beijing_opera-v1.0-hear2021-full": ("beijing_opera", "top1_acc"),
    "dcase2016_task2-hear2021-full": ("", "event_onset_200ms_fms"),
    "esc50-v2.0.0-full": ("esc50", "top1_acc"),
    "fsd50k-v1.0-full": ("fsd50k", "mAP"),
    "gunshot_triangulation-v1.0-full": ("gunshot_triangulation", "top1_acc"),
    "libricount-v1.0.0-hear2021-full": ("libricount", "top1_acc"),
    "maestro-v3.0.0-5h": ("", "event_onset_50ms_fms"),
    "mridangam_stroke-v1.5-full": ("mridangam_stroke", "top1_acc"),
    "mridangam_tonic-v1.5-full": ("mridangam_tonic", "top1_acc"),
    "nsynth_pitch-v2.2.3-5h": ("nsynth_pitch", "pitch_acc"),
    "nsynth_pitch-v2.2.3-50h": ("nsynth_pitch", "pitch_acc"),
    "speech_commands-v0.0.2-5h": ("speech_commands", "top1_acc"),
    "speech_commands-v0.0.2-full": ("speech_commands", "top1_acc"),
    "tfds_crema_d-1.0.0-full": ("tfds_crema_d", "top1_acc"),
    "tfds_gtzan-1.0.0-full": ("tfds_gtzan", "top1_acc"),
    "tfds_gtzan_music_speech-1.0.0-full": ("tfds_gtzan_music_speech", "top1_acc"),
    "vocal_imitation-v1.1.3-full": ("vocal_imitation", "mAP"),
    "vox_lingua_top10-hear2021-full": ("vox_lingua_top10", "top1_acc"),
}


def result(task: str, encoder: str = "ours", score: str = "top1_acc") -> Result:
    return Result(task, encoder, "heareval", score, 0.5, 0.4, 0.6, {}, [], {}, {}, [0.5])


@pytest.mark.parametrize("task", HEAR)
def test_published_rows_are_of_the_same_task(task: str) -> None:
    slug, score = HEAR[task]
    wanted = {f"{row.percent / 100:.3f}" for row in published() if (row.task, row.score) == (slug, score)}
    lines = [
        line.split(" | ")
        for line in markdown(Report([result(task, score=score)])).splitlines()[3:]
        if line.startswith("| ")
    ]
    assert {cells[1].split(" ")[0] for cells in lines} == wanted
    assert bool(wanted) == bool(slug)
    assert not any(cells[2].rstrip(" |").endswith(",") for cells in lines)


def test_a_score_of_one_file_has_no_interval() -> None:
    row = replace(result("drum_events-v1-split"), low=math.nan, high=math.nan, replicates=[math.nan] * 10)
    other = replace(row, encoder="other", value=0.4)
    assert marked_cells([row, other]) == {"ours": "**0.500**", "other": "0.400 ≈"}


def test_music_and_speech_has_its_own_numbers() -> None:
    table = markdown(Report([result("tfds_gtzan_music_speech-1.0.0-full")]))
    assert "| PANNs CNN14 | 0.992 |" in table and "0.860" not in table


def test_versions_that_papers_do_not_name_are_reported() -> None:
    assert "The papers do not state the version of nsynth_pitch" in markdown(Report([result("nsynth_pitch-v2.2.3-5h")]))
    assert "Papers do not state" not in markdown(Report([result("esc50-v2.0.0-full")]))


def test_sources_are_listed_without_their_tables_alone() -> None:
    table = markdown(Report([result("esc50-v2.0.0-full")]))
    assert "| fine-tuned, MaskSpec (Chong et al. 2022), results table of its repository |" in table
    assert "| HEAR, MSM-MAE paper (arXiv 2204.12260) |" in table
    assert all(row.model == row.model.strip() and row.task and row.score for row in published())


def test_json_has_everything_but_the_replicates() -> None:
    (kept,) = as_json(Report([replace(result("a-v1"), high=math.inf, replicates=[0.5])]))["results"]  # type: ignore[misc]
    assert kept["high"] == "inf" and set(kept) == {field.name for field in fields(Result)} - {"replicates"}


def test_a_value_that_is_not_known_is_never_as_good() -> None:
    best = replace(result("a-v1"), replicates=[0.5] * 200)
    unknown = replace(result("a-v1", "other"), value=math.nan, replicates=[math.nan] * 200)
    assert near_best([best, unknown]) == [best.encoder] and near_best([unknown]) == []


def test_of_many_rows_each_must_be_further_behind() -> None:
    best = replace(result("a-v1"), value=0.6, replicates=[0.6] * 200)
    other = replace(result("a-v1", "other"), replicates=[0.6] * 3 + [0.5] * 197)
    third = replace(other, encoder="third")
    assert near_best([best, other]) == [best.encoder] and near_best([best, other, third]) == [
        best.encoder,
        "other",
        "third",
    ]


def test_what_failed_comes_first_and_has_a_cell() -> None:
    table = markdown(
        Report(
            [result("a-v1"), result("b-v1"), result("b-v1", "other")],
            [("a-v1", "other", "gave NaN"), ("c-v1", "", "is torn")],
        )
    )
    assert table.startswith("- a-v1 other failed: gave NaN\n- c-v1 failed: is torn\n\n| encoder |")
    assert "| other | failed | **0.500" in table or "| other | failed | 0.500" in table
