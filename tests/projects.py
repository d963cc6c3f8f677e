"""Projects of earlier releases, edited as users edit them, and updated."""

import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import copier
import impact
import yaml
from conftest import RELEASES, git
from copier import VcsRef
from matrix import Answers, pairwise
from pathspec import GitIgnoreSpec
from questions import TEMPLATE, choices
from test_renders import ANSWERS_FILE, paths

RECORDED: dict[str, str] = tomllib.loads(RELEASES.read_text(encoding="utf-8"))["releases"]
MARKERS = ("<<<<<<< before updating", ">>>>>>> after updating")
# To answer anew updates seed files as well; data, which is no text to merge, stays.
ALL_BUT_DATA = ("!*", "data/sample/*")


def starting_points() -> list[tuple[str, Answers]]:
    """Return each release with a pairwise set of the answers that it offered."""
    return [
        (version, answers)
        for version, commit in RECORDED.items()
        for answers in pairwise(
            {n: choices(q) for n, q in impact.questions(TEMPLATE, commit).items() if choices(q)}
        )
    ]


def commit_all(project: Path, message: str) -> None:
    """Commit what there is, as a user would."""
    if not (project / ".git").exists():
        git(project, "init", "--quiet", "--initial-branch=main")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", message)


def update(
    project: Path,
    version: str | VcsRef,
    answers: Mapping[str, str] | None = None,
    exclude: Sequence[str] = (),
) -> None:
    """Run `copier update`, without trust."""
    copier.run_update(
        project, data=dict(answers or {}), defaults=True, overwrite=True, quiet=True,
        vcs_ref=version, exclude=exclude,
    )  # fmt: skip


def recorded(project: Path) -> dict[str, Any]:
    """Return the answers file."""
    found: dict[str, Any] = yaml.safe_load((project / ANSWERS_FILE).read_text(encoding="utf-8"))
    return found


def contents(project: Path) -> dict[str, bytes]:
    """Return a project's files by name, less the answers file and git's own."""
    return {
        name: path.read_bytes()
        for path in paths(project)
        if not (name := path.relative_to(project).as_posix()).startswith((".git/", ANSWERS_FILE))
    }


def is_seed(fresh: Path) -> GitIgnoreSpec:
    """Return what matches the seed files of a project of today."""
    return GitIgnoreSpec.from_lines(recorded(fresh)["seed_files"])


def in_conflict(project: Path) -> set[str]:
    """Return the files that hold conflict markers."""
    return {
        name
        for name, content in contents(project).items()
        if any(marker.encode() in content for marker in MARKERS)
    }


def copied(project: Path, target: Path) -> Path:
    """Return a copy of one's own."""
    return Path(shutil.copytree(project, target))
