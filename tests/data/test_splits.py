"""Dealing clips out to folds: groups whole, classes even."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from unheard.data.splits import deal, distinct, kin, validation

CLIPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12).map(str)), min_size=1, max_size=60)


@given(CLIPS, st.integers(1, 6), st.randoms())
def test_groups_stay_whole_in_any_order(clips: list[tuple[str, str]], parts: int, random: object) -> None:
    home = dict(zip((group for _, group in clips), deal(*zip(*clips, strict=True), parts), strict=True))
    assert set(home.values()) <= set(range(parts))
    shuffled = clips[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = deal(*zip(*shuffled, strict=True), parts)
    assert [home[group] for _, group in shuffled] == again


def test_classes_are_spread_evenly() -> None:
    labels = ["rare"] * 5 + ["common"] * 95
    folds = deal(labels, [str(number) for number in range(100)], 5)
    counts = Counter(zip(labels, folds, strict=True))
    assert {counts["rare", fold] for fold in range(5)} == {1}
    assert {counts["common", fold] for fold in range(5)} == {19}


@given(CLIPS)
def test_validation_takes_whole_groups_where_there_are_enough(clips: list[tuple[str, str]]) -> None:
    labels, groups = zip(*clips, strict=True)
    chosen = validation(labels, groups)
    homes = defaultdict(set)
    for label, group in clips:
        homes[label].add(group)
    if min(len(home) for home in homes.values()) >= 5:
        sides = defaultdict(set)
        for group, validates in zip(groups, chosen, strict=True):
            sides[group].add(validates)
        assert all(len(side) == 1 for side in sides.values())


def test_validation_of_one_group_takes_single_clips() -> None:
    chosen = validation(["a", "b"] * 10, ["same"] * 20)
    assert sum(chosen) == 4
    assert not any(validation([], []))


ROWS = [
    ("a/1", "kick", "train", "", "rock"),
    ("b/1", "kick", "test", "", "pearl"),
    ("b/2", "hat", "test", "", "pearl"),
    ("c/2", "tom", "train", "", "other"),
    ("c/3", "tom", "train", "", "other"),
    ("d/3", "tom", "train", "", "third"),
]
CONTENT = {"a/1": "x", "b/1": "x", "b/2": "y", "c/2": "y", "c/3": "z", "d/3": "z"}


def test_a_sound_counts_once_on_the_side_that_tests_it() -> None:
    assert [row[0] for row in distinct(ROWS, CONTENT)] == ["b/1", "c/3"]  # y has two labels: nobody knows which is right
    assert distinct(ROWS, dict.fromkeys(CONTENT, "")) == ROWS


def test_groups_that_share_a_file_are_one() -> None:
    assert kin(ROWS, CONTENT) == {"rock": "other", "pearl": "other", "other": "other", "third": "other"}
    assert kin(ROWS, CONTENT | {"c/2": "w"}) == {"rock": "pearl", "pearl": "pearl", "other": "other", "third": "other"}
    assert kin(ROWS, dict.fromkeys(CONTENT, "")) == {name: name for name in ("rock", "pearl", "other", "third")}
