"""What an update from one release to another does to a project, measured on renders of both."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import copier
import jinja2
import yaml
from pathspec import GitIgnoreSpec
from questions import choices

ANSWERS_FILE = ".copier-answers.yml"
Answers = dict[str, Any]
Rendered = Callable[[Path, str, Answers], dict[str, bytes]]


@dataclass
class Impact:
    """Paths are those of a project, `<package>` for its package; choices are `question=choice`."""

    added: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    seeds: set[str] = field(default_factory=set)  # those of the above that are the user's
    new_questions: set[str] = field(default_factory=set)
    gone_questions: set[str] = field(default_factory=set)
    gone_choices: set[str] = field(default_factory=set)
    new_choices: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)  # removed, and an update would delete edits with it

    @property
    def kind(self) -> str:
        """The kind of release that this is, by Semantic Versioning."""
        if self.removed or self.gone_questions or self.gone_choices:
            return "major"
        if self.added or self.new_questions or self.new_choices or self.changed & self.seeds:
            return "minor"
        return "patch"

    def reasons(self) -> Iterator[str]:
        """Say what makes it a major or a minor release, the weightier first."""
        gone = sorted(self.gone_questions | self.gone_choices)
        new = sorted(self.new_questions | self.new_choices)
        yield from (f"{name} is gone" for name in [*gone, *sorted(self.removed)])
        yield from (f"{name} is new" for name in [*new, *sorted(self.added)])
        yield from (f"{path} is the user's, and new projects get another" for path in self.asked)

    @property
    def asked(self) -> list[str]:
        """What is the user's and differs: an update leaves it, so the changelog says what to do."""
        return sorted(
            path for path in self.changed & self.seeds if path.startswith(("src", "conf"))
        )


def between(root: Path, old: str, new: str, rendered: Rendered | None = None) -> Impact:
    """Compare the projects of every combination of the old release's answers.

    `rendered` gives a project's files by name, in place of `project`.
    """
    rendered = rendered or project
    before, after = questions(root, old), questions(root, new)
    found = Impact(
        new_questions=set(after) - set(before),
        gone_questions=set(before) - set(after),
        new_choices=offered(after, set(before)) - offered(before, set(before)),
        gone_choices=offered(before, set(after)) - offered(after, set(after)),
    )
    for answers in combinations(before):
        kept = {
            name: value for name, value in answers.items() if f"{name}={value}" in offered(after)
        }
        safe = GitIgnoreSpec.from_lines(exclusions(root, new, kept))
        _compare(found, rendered(root, old, answers), rendered(root, new, kept), safe)
    return found


def _compare(
    found: Impact, before: dict[str, bytes], after: dict[str, bytes], safe: GitIgnoreSpec
) -> None:
    recorded = yaml.safe_load(after.pop(ANSWERS_FILE))
    before.pop(ANSWERS_FILE)
    seeds = GitIgnoreSpec.from_lines(recorded.get("seed_files", []))
    gone = before.keys() - after.keys()
    found.added |= after.keys() - before.keys()
    found.removed |= gone
    found.changed |= {name for name in before.keys() & after.keys() if before[name] != after[name]}
    found.seeds |= {name for name in before.keys() | after.keys() if seeds.match_file(name)}
    found.lost |= {name for name in gone - found.seeds if not safe.match_file(name)}


def settings(root: Path, commit: str) -> dict[str, Any]:
    """Return a release's copier.yml."""
    shown = git(root, "show", f"{commit}:copier.yml")
    found: dict[str, Any] = yaml.safe_load(shown)
    return found


def questions(root: Path, commit: str) -> dict[str, dict[str, Any]]:
    """Return what a release asks."""
    asked = settings(root, commit).items()
    return {n: q for n, q in asked if n[0] != "_" and q.get("when") is not False}


def exclusions(root: Path, commit: str, answers: Answers) -> list[str]:
    """Return the names that a release's updates leave alone, by the answers alone."""
    written = settings(root, commit)["_exclude"]
    return [n for text in written for n in jinja2.Template(text).render(answers).split()]


def offered(asked: dict[str, dict[str, Any]], among: set[str] | None = None) -> set[str]:
    """Return every `question=choice`, of all questions or of some."""
    kept = {name: question for name, question in asked.items() if among is None or name in among}
    return {f"{name}={choice}" for name, question in kept.items() for choice in choices(question)}


def combinations(asked: dict[str, dict[str, Any]]) -> list[Answers]:
    """Return every combination of choices."""
    several = {name: choices(question) for name, question in asked.items() if choices(question)}
    return [dict(zip(several, values, strict=True)) for values in product(*several.values())]


def project(root: Path, commit: str, answers: Answers) -> dict[str, bytes]:
    """Render a project and return its files by name."""
    with tempfile.TemporaryDirectory() as folder:
        copier.run_copy(str(root), folder, data=answers, defaults=True, quiet=True, vcs_ref=commit)
        return files(Path(folder))


def files(project: Path) -> dict[str, bytes]:
    """Return a project's files by name."""
    (package,) = (path.name for path in (project / "src").iterdir())
    return {
        path.relative_to(project).as_posix().replace(f"/{package}/", "/<package>/"): (
            path.read_bytes()
        )
        for path in project.rglob("*")
        if path.is_file()
    }


def git(root: Path, *words: str) -> str:
    """Run git in a repository; return what it printed."""
    done = subprocess.run(
        ["git", *words], cwd=root, check=True, capture_output=True, encoding="utf-8"
    )
    return done.stdout
