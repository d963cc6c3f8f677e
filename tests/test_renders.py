"""Each combination of answers renders files that are well-formed, quiet and clean."""

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import Render, once
from matrix import Answers
from questions import TEMPLATE

BINARY = {".parquet"}
OVERLAY = re.compile(r"\{\{ (?!package_name)\w+ \}\}")
ANSWERS_FILE = ".copier-answers.yml"


def paths(project: Path) -> list[Path]:
    return sorted(path for path in project.rglob("*") if path.is_file())


def texts(project: Path, *suffixes: str) -> dict[str, str]:
    """Return the text files of a project by their path in it."""
    return {
        path.relative_to(project).as_posix(): path.read_bytes().decode()
        for path in paths(project)
        if path.suffix not in BINARY and (not suffixes or path.suffix in suffixes)
    }


def found(pattern: str, files: dict[str, str]) -> list[str]:
    """Return `file:line` for each line that a pattern matches in."""
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in files.items()
        for number, line in enumerate(text.split("\n"), start=1)
        if re.search(pattern, line)
    ]


def prose(project: Path) -> dict[str, str]:
    """Return the text files other than Python, which is copied and not rendered."""
    return {name: text for name, text in texts(project).items() if not name.endswith(".py")}


def test_configuration_parses(project: Path) -> None:
    for text in texts(project, ".toml").values():
        assert tomllib.loads(text)
    for text in texts(project, ".yml", ".yaml").values():
        assert yaml.safe_load(text)
    for text in texts(project, ".json").values():
        assert json.loads(text)


def test_python_parses_and_is_the_templates_own(project: Path) -> None:
    originals: dict[str, list[bytes]] = {}
    for path in (TEMPLATE / "template").rglob("*.py"):
        parts = path.relative_to(TEMPLATE / "template").parts
        kept = "/".join(part for part in parts if not OVERLAY.fullmatch(part))
        originals.setdefault(kept, []).append(path.read_bytes())
    package = next((project / "src").iterdir()).name
    for name, text in texts(project, ".py").items():
        ast.parse(text)
        original = name.replace(f"src/{package}/", "src/{{ package_name }}/")
        assert text.encode() in originals[original], name


def test_no_jinja_is_left(project: Path) -> None:
    rendered = prose(project)
    workflows = {n: t for n, t in rendered.items() if n.startswith(".github/")}
    # Prometheus and Grafana write labels between double braces.
    labelled = {n: t for n, t in rendered.items() if n.startswith("deploy/monitoring/")}
    others = {n: t for n, t in rendered.items() if n not in {*workflows, *labelled}}
    assert found(r"\{\{|\{%|\{#|\bUndefined\b", others) == []
    assert found(r"(?<!\$)\{\{|\{%|\{#|\bUndefined\b", workflows) == []
    assert found(r"\{\{(?! ?\$?[a-z.]+ ?\}\})|\{%|\{#|\bUndefined\b", labelled) == []
    assert [path for path in paths(project) if re.search(r"[{}%]|\.jinja$", str(path))] == []


def test_no_value_is_missing(project: Path) -> None:
    """An answer that renders as None, or as nothing between quotes, was not filled in."""
    files = {n: t for n, t in prose(project).items() if not n.endswith(".md")}
    # Terraform compares with "", and has it for what is optional: lines of the template itself.
    ours = {
        line.strip()
        for path in (TEMPLATE / "template").rglob("*.tf*")
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    rendered = {
        name: "\n".join("" if line.strip() in ours else line for line in text.split("\n"))
        if name.endswith((".tf", ".hcl"))
        else text
        for name, text in files.items()
    }
    assert found(r"\bNone\b|= *\"\"|:\s*''|\$\{\}", rendered) == []


def test_files_end_in_one_newline(project: Path) -> None:
    files = {n: t for n, t in texts(project).items() if not n.endswith("/__init__.py") or t}
    assert [n for n, t in files.items() if not t.endswith("\n") or t.endswith("\n\n")] == []


def test_there_are_no_stray_blanks(project: Path) -> None:
    assert found(r"[ \t\r]$", texts(project)) == []
    assert [n for n, t in prose(project).items() if "\n\n\n" in t or t.startswith("\n")] == []


def test_only_documents_and_what_updates_mention_copier(project: Path) -> None:
    updating = {ANSWERS_FILE, "pyproject.toml", "renovate.json", "scripts/template.py"}
    files = {n: t for n, t in texts(project).items() if n not in updating and n[-3:] != ".md"}
    assert found(r"(?i)\b(copier|jinja)\b", files) == []


def test_answers_are_recorded(project: Path, answers: Answers) -> None:
    recorded = yaml.safe_load((project / ANSWERS_FILE).read_text())
    assert answers.items() <= recorded.items()
    assert {"_commit", "_src_path"} <= recorded.keys()


def findings(project: Path, words: list[str], shared: Path, **variables: str) -> str:
    """Return what a checker says of a project; those with the same Python are checked once.

    A checker reads the Python, its own settings and the oldest Python that is supported: nothing
    else in the project can change its answer.
    """
    settings = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    read = [words, texts(project, ".py"), settings["project"]["requires-python"], settings["tool"]]
    key = hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:16]

    def check(target: Path) -> None:
        done = subprocess.run(
            words, cwd=project, env={**os.environ, **variables}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        target.mkdir()
        said = f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        (target / "said").write_text(said if done.returncode else "", encoding="utf-8")

    return (once(shared / f"checked-{key}", check) / "said").read_text("utf-8")


@pytest.mark.parametrize("command", [["format", "--check"], ["check"]], ids=" ".join)
def test_ruff_finds_nothing(project: Path, command: list[str], shared: Path) -> None:
    words = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
    assert findings(project, words, shared) == ""


def test_mypy_finds_nothing(
    project: Path, answers: Answers, tools: Callable[[str], Path], shared: Path, mypy_cache: Path
) -> None:
    python = tools(answers["framework"]) / ".venv" / "bin" / "python"
    words = [str(python), "-m", "mypy"]
    assert findings(project, words, shared, MYPY_CACHE_DIR=str(mypy_cache)) == ""


def test_findings_are_told_of_each_project_with_the_same_python(
    copy_of: Render, shared: Path
) -> None:
    project = copy_of()
    words = [sys.executable, "-m", "ruff", "check", "--no-cache", "."]
    assert findings(project, words, shared) == ""
    (project / "src" / "flight_delays" / "unused.py").write_text('"""It."""\n\nimport os\n')
    first = findings(project, words, shared)
    assert "unused.py" in first
    (project / "README.md").write_text("another text, the same Python\n")
    assert findings(project, words, shared) == first


def test_pipeline_without_an_installation_is_one_sentence(render: Render) -> None:
    words = [sys.executable, "pipelines/run_pipeline.py"]
    done = subprocess.run(words, cwd=render(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "error: this Python does not have the project; run `make install`"
    )
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("known", "words"), [({}, []), ({"CI": "true"}, ["--locked"])])
def test_ci_installs_what_is_locked_or_fails(
    known: dict[str, str], words: list[str], render: Render
) -> None:
    """A lock made anew in CI is one that the image and the release do not have."""
    done = subprocess.run(
        ["make", "--dry-run", "install", "UV=uv"],
        cwd=render(), env={"PATH": os.environ["PATH"], **known}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["uv", "sync", *words]


@pytest.mark.parametrize(
    ("cloud", "services"), [("ecs", r"two are (\d+)"), ("cloud-run", r"state \| about (\d+)")]
)
def test_budget_covers_what_the_documents_say_it_costs(
    cloud: str, services: str, render: Render
) -> None:
    """A mail each month that tells of nothing is a mail that nobody reads."""
    project = render(tracking="server", cloud=cloud)
    told = [
        re.search(pattern, (project / "docs" / name).read_text())
        for name, pattern in (
            ("deployment.md", services),
            ("mlflow_hosting.md", r"So it is about (\d+)"),
        )
    ]
    variables = (project / "deploy" / "terraform" / "variables.tf").read_text()
    budget = re.search(r'"monthly_budget" \{[^}]*default += (\d+)', variables)
    assert budget
    assert int(budget[1]) > sum(int(found[1]) for found in told if found)
    assert all(told)
