"""The few combinations that stand for all of them leave out no pair of choices."""

from itertools import combinations

import pytest
from matrix import pairwise

OFFERED = [
    {"a": ["1"]},
    {"a": ["1", "2"]},
    {"a": ["1", "2"], "b": ["3", "4"]},
    {"a": ["1", "2", "3"], "b": ["4"], "c": ["5", "6"], "d": ["7", "8", "9"]},
]


@pytest.mark.parametrize("offered", OFFERED, ids=str)
def test_every_two_choices_meet(offered: dict[str, list[str]]) -> None:
    chosen = pairwise(offered)
    for first, second in combinations(offered, 2):
        met = {(answers[first], answers[second]) for answers in chosen}
        assert met == {(one, two) for one in offered[first] for two in offered[second]}
    assert all(answers.keys() == offered.keys() for answers in chosen)
    assert chosen


def test_few_combinations_stand_for_many() -> None:
    assert len(pairwise({name: ["1", "2", "3"] for name in "abcd"})) < 3**4 / 4
