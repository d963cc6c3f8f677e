"""What Copier may lose in silence, it does not lose here, whatever a later version does.

The later version changes a line of each file, renames and deletes files, renames a question and
retires a choice. The project has an edit wherever that matters.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path

import impact
import pytest
from conftest import NEXT, git, render_to
from later import DROPPED, LATER
from matrix import DEFAULTS
from projects import RECORDED, commit_all, contents, in_conflict, is_seed, recorded, update
from test_renders import BINARY


def lines(content: bytes) -> list[str]:
    return content.decode().splitlines(keepends=True)


def changed_line(old: bytes, new: bytes | None) -> int | None:
    """Return the number of a line that another version replaces; the first if it drops the file."""
    if new is None:
        return 0
    matcher = difflib.SequenceMatcher(None, lines(old), lines(new), autojunk=False)
    return next((begin for tag, begin, *_ in matcher.get_opcodes() if tag == "replace"), None)


@dataclass
class Edited:
    """A project with an edit in each file that the later version changes, and after the update."""

    path: Path
    edits: dict[str, str]  # the lines written, by file
    before: dict[str, bytes]
    dropped: set[str]  # those of the edited files that the later version has not


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(version, marks=pytest.mark.xdist_group(f"later than {version}"))
        for version in (*RECORDED, NEXT)
    ],
)
def edited(
    request: pytest.FixtureRequest,
    later: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Edited:
    """Edit a line wherever the later version changes it, and files it drops; then update."""
    folder = tmp_path_factory.mktemp("edited")
    project, fresh = folder / "project", folder / "fresh"
    answers = {**DEFAULTS, "description": "Say which flights are late."}
    render_to(later, project, answers, request.param)
    render_to(later, fresh, DEFAULTS, LATER)
    commit_all(project, "As rendered")
    after, seeds, edits = contents(fresh), is_seed(fresh), {}
    for name, content in contents(project).items():
        if (
            not seeds.match_file(name)
            and (place := changed_line(content, after.get(name))) is not None
        ):
            text = lines(content)
            edits[name] = f"{text[place].rstrip()} Mine, of {name}."
            text[place] = f"{edits[name]}\n"
            (project / name).write_text("".join(text))
    (project / "logo.png").write_bytes(bytes(range(256)))
    (project / "data/sample/flights.parquet").write_bytes(bytes(range(255, -1, -1)))
    commit_all(project, "Edits")
    before = contents(project)
    update(project, LATER)
    dropped = edits.keys() - after.keys()
    assert dropped >= DROPPED
    return Edited(project, edits, before, dropped)


def test_edit_of_a_line_that_the_template_changed_is_a_marked_conflict(edited: Edited) -> None:
    assert len(edited.edits) > 20
    assert in_conflict(edited.path) == edited.edits.keys() - edited.dropped
    for name, line in edited.edits.items():
        assert line in (edited.path / name).read_text(), name


def test_git_does_not_commit_a_conflict_unresolved(edited: Edited) -> None:
    assert set(git(edited.path, "diff", "--name-only", "--diff-filter=U").split()) == in_conflict(
        edited.path
    )


def test_edited_file_that_the_template_renames_or_deletes_stays(edited: Edited) -> None:
    for name in edited.dropped:
        assert (edited.path / name).read_bytes() == edited.before[name]
    assert (edited.path / "src/flight_delays/problems.py").is_file()


def test_files_that_are_no_text_stay(edited: Edited) -> None:
    for name in ("logo.png", "data/sample/flights.parquet"):
        assert (edited.path / name).read_bytes() == edited.before[name]


def test_seed_files_stay_as_they_were_and_new_ones_arrive(edited: Edited) -> None:
    seeds = is_seed(edited.path)
    assert all(
        (edited.path / name).read_bytes() == content
        for name, content in edited.before.items()
        if seeds.match_file(name)
    )
    assert (edited.path / "src/flight_delays/joined.py").read_text() == "joined = True\n"


def test_answer_stays_when_its_question_is_renamed_or_its_choice_retired(edited: Edited) -> None:
    assert recorded(edited.path)["summary"] == "Say which flights are late."
    assert recorded(edited.path)["framework"] == "sklearn"


def test_template_has_nothing_that_copier_deletes_or_overwrites_in_silence(
    copier_template: Path,
) -> None:
    """`_skip_if_exists` deletes the user's file with the template's; edits of data are lost."""
    assert "_skip_if_exists" not in impact.settings(copier_template, NEXT)
    binary = [p for p in (copier_template / "template").rglob("*") if p.suffix in BINARY]
    assert [path.parent.name for path in binary] == ["sample"] * len(binary)
