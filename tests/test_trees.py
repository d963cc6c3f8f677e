"""Each combination of answers renders exactly the files in its snapshot.

`make snapshots` records the trees anew; read the difference before you commit it.
"""

from pathlib import Path

import pytest
from matrix import MATRIX, Answers, label
from test_renders import paths

SNAPSHOTS = Path(__file__).with_name("snapshots")


def test_tree_is_the_one_recorded(
    project: Path, answers: Answers, request: pytest.FixtureRequest
) -> None:
    tree = "".join(f"{path.relative_to(project).as_posix()}\n" for path in paths(project))
    snapshot = SNAPSHOTS / f"{label(answers)}.txt"
    if request.config.getoption("--rewrite-snapshots"):
        snapshot.write_text(tree, encoding="utf-8")
    assert snapshot.read_text(encoding="utf-8") == tree


def test_every_snapshot_is_of_a_combination() -> None:
    assert {path.stem for path in SNAPSHOTS.iterdir()} == {label(answers) for answers in MATRIX}
