"""A template whose next version does everything that can lose an edit."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import git, once
from test_renders import BINARY

LATER = "100.0.0"
REPLACED = {
    "copier.yml": {
        "  - copier.yml\n": "  - copier.yml\n  - src/*/errors.py\n  - src/*/progress.py\n",
        "description:\n  type: str\n": """\
summary:
  type: str
  default: "{{ description | default('It had none.') }}"

description:
  type: str
  when: false
""",
        "default: Predict late arrivals of flights from their schedule.": (
            'default: "{{ summary }}"'
        ),
        '"scikit-learn: gradient': '"retired, scikit-learn: gradient',
    },
    "CHANGELOG.md": {
        "## [Unreleased]": "## [100.0.0] - 2099-12-31\n\n### Action needed\n\n- Rest.",
    },
    "extensions/seeds.jinja": {
        "set seeds = {\n": "set seeds = {\n  'src/*/joined.py': 'a file that joins',\n",
    },
}
DROPPED = {"src/flight_delays/errors.py", "src/flight_delays/progress.py"}


def first_plain(text: str) -> str | None:
    """Return the first line that holds words and nothing that is filled in."""
    return next(
        (line for line in text.splitlines() if re.search(r"\w", line) and "{" not in line), None
    )


def build(copier_template: Path, template: Path) -> None:
    """Copy a template and give it the later version."""
    shutil.copytree(copier_template, template)
    for path in (template / "template").rglob("*"):
        if path.is_file() and path.suffix not in BINARY and path.name[0] != "{":
            text = path.read_text()
            line = first_plain(text)
            path.write_text(text.replace(line, f"{line} Changed.", 1) if line else text)
    package = template / "template/src/{{ package_name }}"
    (package / "errors.py").rename(package / "problems.py")
    (package / "progress.py").unlink()
    (package / "joined.py").write_text("joined = True\n")
    for name, changes in REPLACED.items():
        text = (template / name).read_text()
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new, 1)
        (template / name).write_text(text)
    git(template, "add", "--all")
    git(template, "commit", "--quiet", "--message", "Later")
    git(template, "tag", LATER)


@pytest.fixture(scope="session")
def later(copier_template: Path, shared: Path) -> Path:
    """Return a template whose next version changes each file, and moves, drops and renames."""
    return once(shared / "later", lambda template: build(copier_template, template))
