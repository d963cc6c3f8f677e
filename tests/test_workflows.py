"""The workflows, ours and a project's, are valid, pinned and ask for little."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import Render
from matrix import MATRIX
from questions import TEMPLATE

BIN = Path(sys.executable).parent
PINS = tomllib.loads((TEMPLATE / "extensions" / "actions.toml").read_text(encoding="utf-8"))
USED = re.compile(r"(?m)^\s+(?:- )?uses: (\S+?)@(\S+)(?: # (\S+))?$")
LINTERS = {
    "actionlint": ["actionlint"],
    "zizmor": ["zizmor", "--offline", "--no-progress", "--min-severity=low", "--quiet"],
    "schema": ["check-jsonschema", "--builtin-schema=vendor.github-workflows"],
}


@pytest.fixture(scope="module")
def projects(render: Render) -> list[Path]:
    """Return the projects of all combinations."""
    return [render(**answers) for answers in MATRIX]


@pytest.fixture(scope="module")
def workflows(projects: list[Path]) -> list[Path]:
    """Return our workflows and all that differ among the projects'."""
    folders = [TEMPLATE, *projects]
    files = [path for folder in folders for path in (folder / ".github/workflows").glob("*.yml")]
    return list({path.read_bytes(): path for path in files}.values())


@pytest.fixture(scope="module")
def actions(projects: list[Path]) -> list[Path]:
    """Return the actions that projects bring themselves."""
    files = [path for each in projects for path in each.glob(".github/actions/*/action.yml")]
    return list({path.read_bytes(): path for path in files}.values())


@pytest.mark.parametrize("linter", LINTERS)
def test_linter_finds_nothing(linter: str, workflows: list[Path]) -> None:
    name, *options = LINTERS[linter]
    words = [str(BIN / name), *options, *map(str, workflows)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actions_are_pinned_as_listed(workflows: list[Path], actions: list[Path]) -> None:
    used = {
        (match[1], match[3], match[2])
        for path in [*workflows, *actions]
        for match in USED.finditer(path.read_text(encoding="utf-8"))
    }
    assert used == {(name, *pin) for name, pin in PINS.items()}


def test_jobs_have_a_time_limit_and_no_standing_rights(workflows: list[Path]) -> None:
    for path in workflows:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] in ({}, {"contents": "read"}), path
        assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values()), path
