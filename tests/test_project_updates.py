"""A project's own commands: `make update`, `make template-diff`, and the workflow that updates."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NEXT, Render, git, render_to
from later import DROPPED, LATER
from local_actions import Job, run_job
from matrix import DEFAULTS, Answers
from projects import commit_all, contents, in_conflict, is_seed, recorded

BIN = Path(sys.executable).parent
README, ERRORS, PROGRESS = "README.md", *sorted(DROPPED)
WORKFLOW = ".github/workflows/template-update.yml"
GITHUB = """\
#!/bin/sh
echo "gh $*" >> "$CALLS"
case "$*" in
  "pr list"*) printf '%s' "$OPENED" ;;
  "pr create"*) cp "$RUNNER_TEMP/body.md" "$CALLS.body" ;;
esac
"""
UV = f"""\
#!/bin/sh
[ "$1" = run ] || exec echo "uv $*" >> "$CALLS"
shift 2 # run --quiet
exec {sys.executable} "$@"
"""


@pytest.fixture
def project(later: Path, tmp_path: Path) -> Path:
    """Return a project of today, that has a later version to update to."""
    render_to(later, tmp_path / "project", DEFAULTS, NEXT)
    commit_all(tmp_path / "project", "As rendered")
    return tmp_path / "project"


@pytest.fixture(scope="module")
def current(later: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Return an untouched project after `make update`, committed, and what it held before."""
    project = tmp_path_factory.mktemp("current") / "project"
    render_to(later, project, DEFAULTS, NEXT)
    commit_all(project, "As rendered")
    before = contents(project)
    assert tool(project, "update", "--yes").returncode == 0
    commit_all(project, "Update")
    return project, before


@pytest.fixture(scope="module")
def edited(later: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a project after `make update`, with edits where it hurts, and what was printed."""
    project = tmp_path_factory.mktemp("edited") / "project"
    render_to(later, project, DEFAULTS, NEXT)
    commit_all(project, "As rendered")
    edit(project, ERRORS)
    edit_first_line(project, "Makefile")
    done = tool(project, "update", "--yes")
    assert done.returncode == 0, done.stderr
    return project, done.stdout


def edit(project: Path, name: str) -> None:
    path = project / name
    path.write_text(path.read_text() + "# Mine.\n")
    commit_all(project, f"Edit {name}")


def edit_first_line(project: Path, name: str) -> None:
    first, rest = (project / name).read_text().split("\n", 1)
    (project / name).write_text(f"{first} Mine.\n{rest}")
    commit_all(project, f"Edit {name}")


def tool(project: Path, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script as `uv run` would, in an environment that has Copier."""
    command = [sys.executable, "scripts/template.py", *words]
    return subprocess.run(
        command, cwd=project, input=answer, capture_output=True, text=True, check=False
    )


def status(project: Path) -> str:
    return git(project, "status", "--porcelain")


def test_update_is_shown_and_nothing_touched_before_a_yes(project: Path) -> None:
    before = contents(project)
    done = tool(project, "update", answer="n\n")
    assert done.returncode == 0, done.stderr
    assert "changed    Makefile" in done.stdout
    assert "new        src/flight_delays/joined.py" in done.stdout
    assert f"removed    {ERRORS}" in done.stdout
    assert contents(project) == before
    assert status(project) == ""


def test_update_of_an_untouched_project_is_a_fresh_render(
    current: tuple[Path, dict[str, bytes]], later: Path, tmp_path: Path
) -> None:
    project, before = current
    summary = recorded(project)["summary"]
    render_to(later, tmp_path / "fresh", {**DEFAULTS, "summary": summary}, LATER)
    updated, wanted, seeds = contents(project), contents(tmp_path / "fresh"), is_seed(project)
    assert updated.keys() == wanted.keys()
    for name in wanted:
        kept = seeds.match_file(name) and name in before
        assert updated[name] == (before if kept else wanted)[name], name


def test_update_keeps_an_edited_file_that_the_template_dropped(edited: tuple[Path, str]) -> None:
    project, printed = edited
    assert f"dropped by the template, kept for your edits {ERRORS}" in printed
    assert (project / ERRORS).read_text().endswith("# Mine.\n")
    assert not (project / PROGRESS).exists()


def test_update_names_the_conflicts_and_leaves_them_marked(edited: tuple[Path, str]) -> None:
    project, printed = edited
    assert "CONFLICT   Makefile" in printed
    assert in_conflict(project) == {"Makefile"}
    assert git(project, "diff", "--name-only", "--diff-filter=U") == "Makefile\n"


def test_update_waits_for_a_clean_tree(project: Path) -> None:
    (project / "Makefile").write_text("mine:\n")
    done = tool(project, "update", "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "The tree is not clean: commit or stash your changes, then update.\n"


def test_update_to_the_same_version_has_nothing_to_do(
    current: tuple[Path, dict[str, bytes]],
) -> None:
    done = tool(current[0], "update", answer="y\n")
    assert (done.stdout, done.stderr) == ("Nothing to update.\n", "")


def test_answer_is_changed_by_one_command(project: Path, render: Render) -> None:
    done = tool(project, "update", "--yes", "framework=pytorch")
    assert done.returncode == 0, done.stderr
    assert recorded(project)["_commit"] == NEXT
    assert contents(project) == contents(render(framework="pytorch"))


def test_renaming_the_package_leaves_the_files_that_were_edited(project: Path) -> None:
    edit(project, "src/flight_delays/model.py")
    done = tool(project, "update", "--yes", "package_name=x1")
    assert "kept for your edits src/flight_delays/model.py" in done.stdout
    assert (project / "src/flight_delays/model.py").read_text().endswith("# Mine.\n")
    assert not (project / "src/flight_delays/train.py").exists()


@pytest.mark.parametrize("answer", ["framework=abacus", "fraemwork=pytorch", "framework"])
def test_answer_that_is_none_gets_one_line_and_changes_nothing(answer: str, project: Path) -> None:
    done = tool(project, "update", "--yes", answer)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert answer.rsplit("=", maxsplit=1)[-1] in line or answer in line
    assert status(project) == ""


def test_diff_shows_edits_of_the_templates_files_alone(project: Path) -> None:
    for name in (README, "src/flight_delays/model.py", "Makefile"):
        edit(project, name)
    (project / "own.py").write_text("own = True\n")
    (project / PROGRESS).unlink()
    done = tool(project, "diff")
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stdout.splitlines() if line.startswith("diff --git")]
    assert shown == [
        "diff --git a/template/Makefile b/project/Makefile",
        f"diff --git a/template/{PROGRESS} b/template/{PROGRESS}",
    ]
    assert "+# Mine." in done.stdout


@pytest.mark.parametrize("words", [[], ["undo"]], ids=str)
def test_command_that_is_none_gets_the_usage(words: list[str], project: Path) -> None:
    done = tool(project, *words)
    assert done.returncode == 1
    assert "Usage: uv run scripts/template.py update" in done.stderr


# --- the workflow, every step of it --------------------------------------------------------------


class Remote:
    """GitHub, as far as the workflow sees it: a repository to push to, and `gh` recorded."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.project, self.folder = project, folder
        self.calls = folder / "calls"
        self.origin = folder / "origin"
        for name in ("bin", "artifact", "first", "second"):
            (folder / name).mkdir()
        for name, text in (("gh", GITHUB), ("uv", UV)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        git(folder, "clone", "--quiet", "--bare", str(project), str(self.origin))

    def checkout(self, name: str) -> Callable[[dict[str, str]], None]:
        def action(given: dict[str, str]) -> None:
            assert given == {"persist-credentials": "False"}
            git(self.folder, "clone", "--quiet", str(self.origin), str(self.folder / name / "work"))

        return action

    def upload(self, given: dict[str, str]) -> None:
        for path in map(Path, given["path"].split()):
            path.rename(self.folder / "artifact" / path.name)

    def download(self, given: dict[str, str]) -> None:
        for path in (self.folder / "artifact").iterdir():
            path.rename(Path(given["path"], path.name))

    def job(self, name: str, folder: str, needs: dict[str, str], opened: str, make: str) -> Job:
        (self.folder / "bin" / "make").write_text(f"#!/bin/sh\necho make $* >> $CALLS\n{make}\n")
        (self.folder / "bin" / "make").chmod(0o755)
        job = Job(
            {"needs": {"update": {"outputs": needs}}, "github": {"token": "t0"}},
            self.folder / folder / "work",
            {
                "CALLS": str(self.calls),
                "OPENED": opened,
                "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            },
            self.folder / folder,
            {
                "actions/checkout": self.checkout(folder),
                "actions/upload-artifact": self.upload,
                "actions/download-artifact": self.download,
                "astral-sh/setup-uv": lambda _: None,
            },
        )
        return run_job(self.project / WORKFLOW, name, job)

    def run(self, *, opened: str = "", make: str = "true") -> tuple[Job, Job | None]:
        """Run both jobs, the second as GitHub would: only if there is something to open."""
        first = self.job("update", "first", {}, opened, make)
        outputs = first.contexts["outputs"]
        assert first.passed, first.printed
        second = self.job("open", "second", outputs, opened, make) if outputs["version"] else None
        return first, second

    def branch(self) -> dict[str, str]:
        """Return what was pushed: the text of each file that the update changed."""
        name = f"template-update/{LATER}"
        changed = git(self.origin, "diff", "--name-only", f"main..{name}").split()
        listed = git(self.origin, "ls-tree", "-r", "--name-only", name).split()
        return {n: git(self.origin, "show", f"{name}:{n}") for n in changed if n in listed}


@pytest.fixture
def remote(project: Path, tmp_path: Path) -> Remote:
    (tmp_path / "github").mkdir()
    return Remote(project, tmp_path / "github")


def test_workflow_opens_a_pull_request_with_the_changelogs_part(remote: Remote) -> None:
    first, second = remote.run()
    assert second
    assert second.passed, second.printed
    assert set(first.outcomes.values()) == {"success"}
    calls = remote.calls.read_text().splitlines()
    assert [call.split(" --head")[0] for call in calls] == [
        "gh pr list", "uv lock", "make install lint test", "gh auth setup-git", "gh pr create",
    ]  # fmt: skip
    branch = f"--head template-update/{LATER} --title Update the template to {LATER}"
    assert branch in calls[-1]
    assert not calls[-1].endswith("--draft")
    body = Path(f"{remote.calls}.body").read_text()
    assert f"from {NEXT} to {LATER}" in body
    assert "### Action needed\n\n- Rest." in body
    assert "Lint and tests: success" in body
    assert " Changed." in remote.branch()["Makefile"]


def test_workflow_hides_no_conflict_marker(project: Path, tmp_path: Path) -> None:
    edit_first_line(project, "Makefile")
    edit(project, ERRORS)
    (tmp_path / "github").mkdir()
    remote = Remote(project, tmp_path / "github")
    first, second = remote.run()
    assert second
    assert not second.passed
    assert "files with conflict markers: 1" in second.printed
    assert first.outcomes["Install, lint and test"] == "skipped"
    assert remote.calls.read_text().splitlines()[-1].endswith("--draft")
    body = Path(f"{remote.calls}.body").read_text()
    assert "- [ ] Resolve the conflict markers in `Makefile`." in body
    assert f"- [ ] Move your edits out of `{ERRORS}`" in body
    assert "<<<<<<< before updating" in remote.branch()["Makefile"]


def test_workflow_leaves_a_draft_where_tests_fail(remote: Remote) -> None:
    first, second = remote.run(make="exit 2")
    assert second
    assert not second.passed
    assert first.outcomes["Install, lint and test"] == "failure"
    assert remote.calls.read_text().splitlines()[-1].endswith("--draft")
    assert "Lint and tests: failure" in Path(f"{remote.calls}.body").read_text()


def test_workflow_proposes_a_version_once(remote: Remote) -> None:
    first, second = remote.run(opened="17")
    assert second is None
    assert first.outcomes["Install, lint and test"] == "skipped"


def test_workflow_has_nothing_to_do_without_a_release(
    current: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    remote = Remote(current[0], tmp_path)
    _, second = remote.run()
    assert second is None
    assert not remote.calls.exists()


def test_conflict_marker_fails_lint(released: Callable[[str, Answers], Path]) -> None:
    project = released(NEXT, DEFAULTS)
    (project / "docs" / "note.md").write_text("<" * 7 + " before updating\n")
    done = subprocess.run(
        ["make", "lint", "RUN=true"], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "docs/note.md:1:" in done.stdout
    (project / "docs" / "note.md").unlink()
    subprocess.run(["make", "lint", "RUN=true"], cwd=project, capture_output=True, check=True)
