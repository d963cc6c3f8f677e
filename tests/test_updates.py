"""An updated project is what a fresh render would be, and so is one that changed an answer."""

from collections.abc import Callable
from pathlib import Path

import impact
import pytest
from conftest import NEXT, Render
from copier import VcsRef
from matrix import CHOICES, DEFAULTS, Answers, label
from projects import (
    ALL_BUT_DATA,
    RECORDED,
    commit_all,
    contents,
    in_conflict,
    is_seed,
    recorded,
    starting_points,
    update,
)

Released = Callable[[str, Answers], Path]
STARTS = [
    pytest.param(version, answers, id=f"{version}-{label(answers)}")
    for version, answers in starting_points()
]


@pytest.mark.parametrize(("version", "chosen"), STARTS)
def test_untouched_project_updates_to_a_fresh_render(
    version: str, chosen: Answers, released: Released, render: Render
) -> None:
    old, fresh = released(version, chosen), render(**chosen)
    before, wanted, seeds = contents(old), contents(fresh), is_seed(fresh)
    update(old, NEXT)
    updated = contents(old)
    assert recorded(old) == {**recorded(fresh), "_src_path": recorded(old)["_src_path"]}
    for name in updated.keys() | wanted.keys():
        kept = name in before and (name not in wanted or seeds.match_file(name))
        assert updated[name] == (before if kept else wanted)[name], name


@pytest.mark.parametrize("version", RECORDED)
def test_files_that_a_release_drops_are_left_to_who_edited_them(
    version: str, copier_template: Path, render: Render
) -> None:
    """Copier deletes them with their edits unless `_exclude` names them."""

    def rendered(root: Path, commit: str, answers: Answers) -> dict[str, bytes]:
        if commit == NEXT:  # which other tests render as well
            return impact.files(render(**answers))
        return impact.project(root, commit, answers)

    assert impact.between(copier_template, version, NEXT, rendered).lost == set()


def test_next_update_leaves_alone_what_the_last_one_brought(released: Released) -> None:
    old = released(next(iter(RECORDED)), DEFAULTS)
    update(old, NEXT)
    commit_all(old, "Update")
    joined = {name for name in contents(old) if is_seed(old).match_file(name)}
    for name in joined:
        (old / name).write_bytes(b"Mine.\n")
    commit_all(old, "Edit")
    update(old, VcsRef.CURRENT)
    assert {name for name in joined if (old / name).read_bytes() != b"Mine.\n"} == set()


OTHER = [
    (question, choice) for question in CHOICES for choice in CHOICES[question]
    if choice != DEFAULTS[question]
]  # fmt: skip
NAMES = [("project_name", "Late Trains"), ("description", "Say which trains are late.")]
PACKAGE = {"package_name": "flight_delays"}  # which would follow from the project's name
FILES_FOLLOW = {"task", "framework", "package_name"}


@pytest.mark.parametrize(("question", "choice"), [*OTHER, *NAMES, ("package_name", "trains")])
def test_another_answer_equals_a_fresh_render_with_it(
    question: str, choice: str, released: Released, render: Render
) -> None:
    old = released(NEXT, DEFAULTS)
    update(old, VcsRef.CURRENT, {question: choice}, ALL_BUT_DATA)
    fresh = render(**{**PACKAGE, question: choice})
    assert contents(old) == contents(fresh)
    assert recorded(old)["seed_files"] == recorded(fresh)["seed_files"]


@pytest.mark.parametrize(
    ("question", "choice"), NAMES + [o for o in OTHER if o[0] not in FILES_FOLLOW]
)
def test_answer_without_files_of_its_own_changes_with_a_plain_update(
    question: str, choice: str, released: Released, render: Render
) -> None:
    old = released(NEXT, DEFAULTS)
    update(old, VcsRef.CURRENT, {question: choice})
    wanted = contents(render(**{**PACKAGE, question: choice}))
    assert {n for n, content in contents(old).items() if wanted[n] != content} <= {"README.md"}


@pytest.mark.parametrize(("question", "choice"), [o for o in OTHER if o[0] not in FILES_FOLLOW])
def test_an_answer_that_is_taken_back_leaves_no_trace(
    question: str, choice: str, released: Released, render: Render
) -> None:
    old = released(NEXT, {**DEFAULTS, question: choice})
    update(old, VcsRef.CURRENT, {question: DEFAULTS[question]}, ALL_BUT_DATA)
    assert contents(old) == contents(render())


@pytest.mark.parametrize(
    ("question", "choice"),
    [("task", "regression"), ("framework", "pytorch"), ("package_name", "x1")],
)
def test_plain_update_refuses_an_answer_that_the_users_files_follow(
    question: str, choice: str, released: Released
) -> None:
    old = released(NEXT, DEFAULTS)
    before = contents(old)
    with pytest.raises(ValueError, match=f'make update ANSWERS="{question}={choice}"'):
        update(old, VcsRef.CURRENT, {question: choice})
    assert contents(old) == before


@pytest.mark.parametrize(("question", "choice"), [o for o in OTHER if o[0] in FILES_FOLLOW])
def test_another_answer_marks_conflicts_in_the_seed_files_that_were_edited(
    question: str, choice: str, released: Released, render: Render
) -> None:
    """Others are replaced; data, which cannot be merged, stays."""
    old = released(NEXT, DEFAULTS)
    before, wanted = contents(old), contents(render(**{question: choice}))
    seeds = is_seed(old)
    differing = {n for n in before.keys() & wanted.keys() if before[n] != wanted[n]}
    yours = {n for n in differing if seeds.match_file(n)}
    changed = sorted(yours)[::2]
    for name in changed:
        (old / name).write_bytes(b"Mine.\n")
    (old / "data/sample/flights.parquet").write_bytes(b"Mine.\0")
    commit_all(old, "Edits")
    update(old, VcsRef.CURRENT, {question: choice}, ALL_BUT_DATA)
    assert in_conflict(old) == set(changed)
    assert all(b"Mine.\n" in (old / name).read_bytes() for name in changed)
    assert all((old / name).read_bytes() == wanted[name] for name in yours - set(changed))
    assert (old / "data/sample/flights.parquet").read_bytes() == b"Mine.\0"
