"""`make release` measures what a release does to projects, and refuses one that does not say it."""

import tomllib
from pathlib import Path

import changelog
import pytest
import release
from conftest import git
from impact import Impact
from questions import TEMPLATE

QUESTIONS = """
package:
  type: str
  default: delays
color:
  type: str
  choices: [red, blue]
  default: red
_subdirectory: template
_exclude: [copier.yml]
"""
ANSWERS = """\
{{ dict(_copier_answers, seed_files=['src/*/model.py']) | to_nice_yaml }}
"""
CHANGES = """\
# Changelog

## [Unreleased]

### Added

- A second thing.

### Likely conflicts

- None.

### Action needed

- None.

## [0.1.0] - 2026-01-31

### Added

- A first thing.
"""
PACKAGE = "template/src/{{ package }}"


class Repository:
    """A small template with one release, and what a test changes since."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("copier.yml", QUESTIONS)
        self.write("template/{{ _copier_conf.answers_file }}.jinja", ANSWERS)
        self.write(f"{PACKAGE}/model.py", "model = 1\n")
        self.write(f"{PACKAGE}/pipeline.py", "pipeline = 1\n")
        git(root, "init", "--quiet", "--initial-branch=main")
        self.write("tests/releases.toml", f'[releases]\n"0.1.0" = "{self.commit()}"\n')
        self.write("CHANGELOG.md", CHANGES)
        self.commit()

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def commit(self) -> str:
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--message", "A step")
        return git(self.root, "rev-parse", "HEAD").strip()

    def release(self, *words: str) -> int:
        return release.main(list(words), self.root)


@pytest.fixture
def repository(tmp_path: Path, default_gitconfig: object) -> Repository:
    del default_gitconfig  # commits need its author
    return Repository(tmp_path)


def patched(repository: Repository) -> None:
    repository.replace(f"{PACKAGE}/pipeline.py", "1", "2")


def test_patch_changes_what_is_the_templates_and_adds_nothing(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    patched(repository)
    repository.commit()
    assert repository.release("0.1.1") == 0
    assert "- Changes `src/<package>/pipeline.py`." in capsys.readouterr().out


def test_dry_run_writes_nothing(repository: Repository) -> None:
    patched(repository)
    repository.commit()
    repository.release("0.1.1")
    assert git(repository.root, "status", "--porcelain") == git(repository.root, "tag") == ""


def test_release_is_recorded_by_a_later_commit_and_tagged(repository: Repository) -> None:
    patched(repository)
    commit = repository.commit()
    assert repository.release("0.1.1", "--apply") == 0
    recorded = tomllib.loads((repository.root / release.RECORD).read_text())["releases"]
    assert recorded["0.1.1"] == commit == git(repository.root, "rev-parse", "0.1.1").strip()
    assert git(repository.root, "rev-parse", "HEAD~1").strip() == commit
    assert git(repository.root, "status", "--porcelain") == ""


def test_changelog_says_files_conflicts_and_action(repository: Repository) -> None:
    patched(repository)
    repository.commit()
    repository.release("0.1.1", "--apply")
    opening, sections = changelog.parse((repository.root / "CHANGELOG.md").read_text())
    assert opening == "# Changelog"
    assert sections == {
        "Unreleased": {},
        "0.1.1": {
            "Added": ["- A second thing."],
            "Files touched": ["- Changes `src/<package>/pipeline.py`."],
            "Likely conflicts": ["- None."],
            "Action needed": ["- None."],
        },
        "0.1.0": {"Added": ["- A first thing."]},
    }


def test_entries_written_after_the_commit_wait_for_the_next_release(
    repository: Repository,
) -> None:
    patched(repository)
    commit = repository.commit()
    repository.replace("CHANGELOG.md", "second thing.", "second thing.\n- A third thing.")
    repository.commit()
    assert repository.release("0.1.1", "--commit", commit, "--apply") == 0
    _, sections = changelog.parse((repository.root / "CHANGELOG.md").read_text())
    assert sections["0.1.1"]["Added"] == ["- A second thing."]
    assert sections["Unreleased"] == {"Added": ["- A third thing."]}


def test_action_may_be_written_after_the_commit(repository: Repository) -> None:
    patched(repository)
    commit = repository.commit()
    repository.replace("CHANGELOG.md", ACTION, "### Action needed\n\n- Look at `model.py`.")
    repository.commit()
    assert repository.release("0.1.1", "--commit", commit, "--apply") == 0
    _, sections = changelog.parse((repository.root / "CHANGELOG.md").read_text())
    assert sections["0.1.1"]["Action needed"] == ["- Look at `model.py`."]


def test_files_in_touched_folders_are_wrapped() -> None:
    found = Impact(added={f"src/<package>/module_{n}.py" for n in range(9)})
    (entry,) = release.touched(found)
    assert all(len(line) <= 100 for line in entry.splitlines())
    assert entry.startswith("- Adds `src/<package>/module_0.py`, `src")


ACTION = "### Action needed\n\n- None."


def added_file(repository: Repository) -> None:
    repository.write(f"{PACKAGE}/drift.py", "drift = 1\n")


def added_question(repository: Repository) -> None:
    repository.replace("copier.yml", "_sub", "size:\n  type: str\n  default: large\n_sub")


def added_choice(repository: Repository) -> None:
    repository.replace("copier.yml", "[red, blue]", "[red, blue, green]")


def changed_seed(repository: Repository) -> None:
    repository.replace(f"{PACKAGE}/model.py", "1", "2")
    repository.replace("CHANGELOG.md", ACTION, "### Action needed\n\n- Compare `model.py`.")


def removed_file(repository: Repository) -> None:
    (repository.root / PACKAGE / "pipeline.py").unlink()
    repository.replace("copier.yml", "[copier.yml]", "[copier.yml, src/*/pipeline.py]")
    repository.replace("CHANGELOG.md", ACTION, "### Action needed\n\n- Move your changes.")


def removed_question(repository: Repository) -> None:
    repository.replace("copier.yml", "color:", "colour:")
    repository.replace("CHANGELOG.md", ACTION, "### Action needed\n\n- Answer again.")


def removed_choice(repository: Repository) -> None:
    repository.replace("copier.yml", "[red, blue]", "[red, green]")
    repository.replace("CHANGELOG.md", ACTION, "### Action needed\n\n- Choose green.")


MINOR = [added_file, added_question, added_choice, changed_seed]
MAJOR = [removed_file, removed_question, removed_choice]


@pytest.mark.parametrize("change", [*MINOR, *MAJOR])
def test_patch_is_refused_when_more_than_that_changed(
    change: object, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(change)
    change(repository)
    repository.commit()
    assert repository.release("0.1.1") == 1
    assert "call it 0.2.0" in capsys.readouterr().err
    assert repository.release("0.2.0") == 0


@pytest.mark.parametrize("change", MAJOR)
def test_loss_is_a_major_version_once_there_is_one(
    change: object, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(change)
    repository.replace("tests/releases.toml", "0.1.0", "1.4.2")
    change(repository)
    repository.commit()
    assert repository.release("1.5.0") == 1
    assert "call it 2.0.0" in capsys.readouterr().err
    assert repository.release("2.0.0") == 0


@pytest.mark.parametrize("change", MINOR)
def test_addition_is_a_minor_version_once_there_is_a_major_one(
    change: object, repository: Repository
) -> None:
    assert callable(change)
    repository.replace("tests/releases.toml", "0.1.0", "1.4.2")
    change(repository)
    repository.commit()
    assert repository.release("1.5.0") == repository.release("2.0.0") == 0
    assert repository.release("1.4.3") == repository.release("1.6.0") == 1


def without_exclusion(repository: Repository) -> None:
    removed_file(repository)
    repository.replace("copier.yml", ", src/*/pipeline.py]", "]")


def seed_unexplained(repository: Repository) -> None:
    changed_seed(repository)
    repository.replace("CHANGELOG.md", "Compare `model.py`", "Nothing")


def loss_unexplained(repository: Repository) -> None:
    removed_choice(repository)
    repository.replace("CHANGELOG.md", "- Choose green.", "- None.")


def conflicts_unsaid(repository: Repository) -> None:
    added_file(repository)
    repository.replace("CHANGELOG.md", "### Likely conflicts\n\n- None.\n\n", "")


def conflict_elsewhere(repository: Repository) -> None:
    added_file(repository)
    repository.replace("CHANGELOG.md", "conflicts\n\n- None.", "conflicts\n\n- In `Makefile`.")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_exclusion, "add src/*/pipeline.py to _exclude"),
        (seed_unexplained, "src/<package>/model.py differs, and is left to users: name it"),
        (loss_unexplained, "'### Action needed' must say what to do"),
        (conflicts_unsaid, "no entry under '### Likely conflicts'"),
        (conflict_elsewhere, "names Makefile, which this release leaves as it was"),
    ],
)
def test_release_is_refused_until_the_changelog_says_it(
    change: object, said: str, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(change)
    change(repository)
    repository.commit()
    assert repository.release("0.2.0", "--apply") == 1
    assert said in capsys.readouterr().err
    assert git(repository.root, "tag") == ""


def test_words_that_are_no_release_get_one_line(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = git(repository.root, "commit-tree", "HEAD^{tree}", "-m", "No descendant").strip()
    wrong = {
        ("0.2",): "'0.2' is no version",
        ("v0.2.0",): "'v0.2.0' is no version",
        ("0.1.0",): "0.1.0 is released already",
        ("0.2.0", "--commit", "nowhere"): "nowhere is no commit",
        ("0.2.0", "--commit", elsewhere): "is not an ancestor of HEAD",
    }
    for words, said in wrong.items():
        assert repository.release(*words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


def test_release_is_refused_from_a_tree_that_is_not_clean(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    patched(repository)
    assert repository.release("0.1.1") == 1
    assert "the tree is not clean" in capsys.readouterr().err


def test_releases_of_this_template_are_ancestors_in_order() -> None:
    recorded = tomllib.loads((TEMPLATE / release.RECORD).read_text())["releases"]
    assert list(recorded) == sorted(recorded, key=release.numbers)
    history = git(TEMPLATE, "rev-list", "HEAD").split()
    places = [history.index(commit) for commit in recorded.values()]
    assert places == sorted(places, reverse=True)


def test_every_release_has_its_section_in_the_changelog() -> None:
    text = (TEMPLATE / release.CHANGELOG).read_text()
    recorded = tomllib.loads((TEMPLATE / release.RECORD).read_text())["releases"]
    _, sections = changelog.parse(text)
    assert set(sections) - {changelog.UNRELEASED} == set(recorded)
    assert all(set(release.TOLD) <= set(sections[version]) for version in recorded)


def test_no_entry_joins_a_release_that_did_not_have_it() -> None:
    """A merge puts a new entry below the last one that it knew, which may be released by then."""
    _, sections = changelog.parse((TEMPLATE / release.CHANGELOG).read_text())
    recorded = tomllib.loads((TEMPLATE / release.RECORD).read_text())["releases"]
    for version, commit in recorded.items():
        known = git(TEMPLATE, "show", f"{commit}:{release.CHANGELOG}")
        entries = [e for h, es in sections[version].items() if h not in release.TOLD for e in es]
        assert [entry for entry in entries if entry not in known] == [], version
