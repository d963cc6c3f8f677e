"""Projects edited as users edit them keep every edit, without conflicts where it had a place."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import NEXT, Render, project_environment, render_to
from edits import AT_THEIR_PLACES, PACKAGE, Edit, at_hand, everywhere, make_all
from later import LATER
from matrix import CHOICES, DEFAULTS, Answers, label, pairwise
from projects import commit_all, contents, in_conflict, starting_points, update

STARTS = [
    *((version, answers, NEXT) for version, answers in starting_points()),
    *((NEXT, answers, LATER) for answers in pairwise(CHOICES)),
]
FAST = [f"src/{PACKAGE}/tests/test_{name}.py" for name in ("config", "contract", "model")]


@pytest.mark.parametrize(
    ("version", "answers_", "to"), STARTS, ids=lambda v: v if isinstance(v, str) else label(v)
)
def test_edits_are_kept_and_conflict_only_inside_the_templates_lines(
    version: str, answers_: Answers, to: str, later: Path, tmp_path: Path
) -> None:
    chosen = at_hand(answers_, version)
    render_to(later, tmp_path / "project", answers_, version)
    make_all(tmp_path / "project", chosen)
    update(tmp_path / "project", to)
    assert not lost(chosen, tmp_path / "project")
    assert in_conflict(tmp_path / "project") <= {edit.file for edit in chosen if edit.ours}
    assert (tmp_path / "project/data/own/flights.parquet").is_file()


def lost(chosen: Sequence[Edit], project: Path) -> list[str]:
    """Return the edits of which no trace is left."""
    return [edit.name for edit in chosen if not edit.is_kept(project)]


@pytest.mark.executed
def test_edited_project_of_the_first_release_lints_and_tests_after_the_update(
    released: Callable[[str, Answers], Path], render: Render, tmp_path: Path
) -> None:
    """What had no place in 0.1.0 is put into the places that the update brought.

    Tests that the template no longer gives are deleted, as the changelog asks: `make update` would
    have, but Copier leaves them where they are.
    """
    project = released("0.1.0", DEFAULTS)
    given = contents(project)
    make_all(project, everywhere(DEFAULTS))
    update(project, NEXT)
    assert in_conflict(project) == set()
    for name in given.keys() - contents(render()).keys():
        if f"{PACKAGE}/tests/" in name and (project / name).read_bytes() == given[name]:
            (project / name).unlink()
    for edit in AT_THEIR_PLACES:
        edit.make(project)
    commit_all(project, "Update the template")
    variables = project_environment(project, tmp_path)
    for words in (["install"], ["lint"], ["test", f"ARGS={' '.join(FAST)}"]):
        done = subprocess.run(
            ["make", *words], cwd=project, env=variables, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
