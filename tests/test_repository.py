"""The repository works for anybody: it names no machine and no registry of ours."""

import re

from conftest import git
from questions import TEMPLATE

MACHINE = re.compile(r"(?<![\w./}-])/(work|tmp/w|root|opt|home)/")
HOST = re.compile(
    r"(?i)\b(pypi\.org|pythonhosted\.org|registry\.npmjs\.org|[\w-]*artifactory[\w.-]*)"
)
PYTORCH = re.compile(r"https?://download\.pytorch\.org\S*")
ITSELF = "tests/test_repository.py"


def lines() -> list[str]:
    """Return `file:line: text` for each line of text that is, or could be, committed."""
    names = git(TEMPLATE, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    paths = [TEMPLATE / name for name in names.split("\0") if name not in {"", ITSELF}]
    return [
        f"{path.relative_to(TEMPLATE)}:{number}: {line}"
        for path in paths
        if path.is_file() and path.suffix != ".parquet"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    ]


def test_nothing_names_a_machines_folder() -> None:
    assert [line for line in lines() if MACHINE.search(line)] == []


def test_nothing_names_a_package_registry() -> None:
    assert [line for line in lines() if HOST.search(line)] == []


def test_pytorchs_index_is_named_once() -> None:
    named = [line for line in lines() if PYTORCH.search(line)]
    assert [line.split(":")[0] for line in named] == ["template/pyproject.toml.jinja"]


def test_repositories_are_begun_on_the_branch_that_workflows_watch() -> None:
    begun = [line.split(": ", 1)[1] for line in lines() if re.search(r":\d+: git init", line)]
    assert set(begun) == {"git init --initial-branch=main"}


def test_no_work_is_left_undone() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b")
    assert [line for line in lines() if marks.search(line)] == []
