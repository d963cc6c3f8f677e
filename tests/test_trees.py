"""Each combination of answers renders exactly the files that the snapshots add up to.

`default.txt` lists the files of the default answers. Each other answer has a file with what it adds
(`+`) and takes away (`-`), and so have two answers that do more together than each alone.
`make snapshots` records them anew; read the difference before you commit it.
"""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import pytest
from conftest import Render
from matrix import CHOICES, DEFAULTS, Answers
from test_renders import paths

SNAPSHOTS = Path(__file__).with_name("snapshots")
DEFAULT = "default"


def tree(project: Path) -> set[str]:
    return {path.relative_to(project).as_posix() for path in paths(project)}


def departures(answers: Answers) -> list[str]:
    """Return the names of the snapshots that a combination's tree may depart from the default by.

    An answer comes before its pairs, which say what the two do beyond each.
    """
    given = [f"{name}-{value}" for name, value in answers.items() if value != DEFAULTS[name]]
    return [*given, *("+".join(pair) for pair in combinations(given, 2))]


def applied(files: set[str], changes: Iterable[str]) -> set[str]:
    """Return the files after lines of changes, `+ path` or `- path`."""
    changed = set(files)
    for sign, path in (line.split(" ", 1) for line in changes):
        assert (path in changed) == (sign == "-"), f"{sign} {path} changes nothing"
        changed ^= {path}
    return changed


def expected(answers: Answers) -> set[str]:
    files = set((SNAPSHOTS / f"{DEFAULT}.txt").read_text("utf-8").splitlines())
    for name in departures(answers):
        snapshot = SNAPSHOTS / f"{name}.txt"
        if snapshot.is_file():
            files = applied(files, snapshot.read_text("utf-8").splitlines())
    return files


def combinations_of_few() -> list[Answers]:
    """Return what the snapshots are taken of: one answer, then two, that are not the default."""
    others = [(n, v) for n, values in CHOICES.items() for v in values if v != DEFAULTS[n]]
    pairs = [{**DEFAULTS, a: v, b: w} for (a, v), (b, w) in combinations(others, 2) if a != b]
    return [*({**DEFAULTS, name: value} for name, value in others), *pairs]


def record(render: Render) -> None:
    """Write the snapshots of what is rendered now."""
    for path in SNAPSHOTS.iterdir():
        path.unlink()
    lines = sorted(tree(render()))
    (SNAPSHOTS / f"{DEFAULT}.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    for answers in combinations_of_few():
        now, known = tree(render(**answers)), expected(answers)
        signed = [(path, "-" if path in known else "+") for path in sorted(now ^ known)]
        if signed:
            text = "".join(f"{sign} {path}\n" for path, sign in signed)
            (SNAPSHOTS / f"{departures(answers)[-1]}.txt").write_text(text, "utf-8")


@pytest.fixture(scope="module", autouse=True)
def recorded(request: pytest.FixtureRequest, render: Render) -> None:
    if request.config.getoption("--rewrite-snapshots"):
        record(render)


def test_tree_is_the_one_recorded(project: Path, answers: Answers) -> None:
    assert tree(project) == expected(answers)


def test_every_snapshot_is_of_a_combination() -> None:
    known = {DEFAULT, *(departures(answers)[-1] for answers in combinations_of_few())}
    assert {path.stem for path in SNAPSHOTS.iterdir()} <= known


def test_changes_that_change_nothing_are_refused() -> None:
    assert applied({"a", "b"}, ["- a", "+ c"]) == {"b", "c"}
    with pytest.raises(AssertionError, match=r"\+ a changes nothing"):
        applied({"a"}, ["+ a"])
    with pytest.raises(AssertionError, match="- b changes nothing"):
        applied({"a"}, ["- b"])
