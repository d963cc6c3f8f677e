"""The template under test, and its renders: each combination of answers is rendered once."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import copier
import pytest
import uv
from copier._main import Worker
from jinja2 import Environment
from matrix import MATRIX, Answers, complete, label
from package_index import environment
from questions import TEMPLATE

pytest_plugins = ["later"]

NEXT = "99.99.99"
RELEASES = Path(__file__).with_name("releases.toml")
Render = Callable[..., Path]

# What a project reads from its environment, and what pytest, make and uv around us put there.
NOT_INHERITED = (
    "ANSWERS", "ARGS", "CI", "HOST", "MAKE", "MAX_", "MFLAGS", "MLFLOW_", "MODEL_", "PORT",
    "PREDICTION_", "PYTEST_", "PYTHON", "UV_PYTHON", "VIRTUAL_ENV",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-snapshots", action="store_true", help="record the trees in tests/snapshots"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `answers` once for every combination of them."""
    if "answers" in metafunc.fixturenames:
        metafunc.parametrize("answers", MATRIX, ids=label)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes longest, so that no worker is left alone with it."""
    items.sort(key=lambda item: item.get_closest_marker("executed") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what tests measured, which no assertion holds to a number."""
    passed = terminalreporter.stats.get("passed", [])
    measured = [pair for report in passed for pair in report.user_properties]
    if measured:
        terminalreporter.section("measured")
        for name, value in measured:
            terminalreporter.line(f"{name}: {value}")


def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than cores: Terraform's provider waits for most of its time."""
    return (os.cpu_count() or 1) + 1


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, check=True, capture_output=True, encoding="utf-8"
    )
    return done.stdout


def once(path: Path, build: Callable[[Path], None]) -> Path:
    """Build a folder that all workers share, unless one of them has built it already."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            partial = path.with_name(f"{path.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            build(partial)
            partial.rename(path)
    return path


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return a folder that all workers of this session see."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def mypy_cache(shared: Path, worker_id: str) -> Path:
    """Return where mypy keeps what it knows of installed packages, for every project of a worker.

    It is a database, which a second mypy, started at the same moment, finds locked.
    """
    return shared / f"mypy-{worker_id}"


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Compile each text of the template once; Copier does so again for each project."""
    compiled: dict[tuple[object, ...], Any] = {}
    compile_ = Environment.compile

    def remembered(self: Environment, source: Any, *about: Any) -> Any:
        key = (type(self), self.lexer, *self.extensions, self.autoescape, source, *about)
        if key not in compiled:
            compiled[key] = compile_(self, source, *about)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Environment, "compile", remembered)
        yield


@pytest.fixture(scope="session", autouse=True)
def modes_left_to_git() -> Iterator[None]:
    """Spare one git per file: by it Copier asks for `core.fileMode`, which is true here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Worker, "_sync_git_index_executable_bit", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def copier_template(shared: Path, default_gitconfig: object) -> Path:
    """Return a clone with its releases tagged and the working tree, as it is, as the newest."""
    del default_gitconfig  # commits need its author
    return once(shared / "template", clone_to)


def clone_to(clone: Path) -> None:
    """Clone the template; tag its releases and the working tree."""
    git(TEMPLATE, "clone", "--quiet", "--no-hardlinks", str(TEMPLATE), str(clone))
    for tag in git(clone, "tag").split():
        git(clone, "tag", "--delete", tag)
    releases: dict[str, str] = tomllib.loads(RELEASES.read_text(encoding="utf-8"))["releases"]
    for version, commit in (releases or {"0.0.1": "HEAD"}).items():
        git(clone, "tag", version, commit)
    listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = [name for name in git(TEMPLATE, *listed).split("\0") if name]
    git(clone, "rm", "-r", "--quiet", "--ignore-unmatch", ".")
    for name in files:
        if (TEMPLATE / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TEMPLATE / name, clone / name)
    git(clone, "add", "--all", "--force")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "The working tree")
    git(clone, "tag", NEXT)


def render_to(template: Path, target: Path, answers: Answers, version: str = NEXT) -> None:
    """Render without trust, as a stranger would."""
    copier.run_copy(str(template), target, data=answers, defaults=True, quiet=True, vcs_ref=version)


@pytest.fixture(scope="session")
def render(copier_template: Path, shared: Path) -> Render:
    """Return a function from answers to their render, which all tests share: read it only."""
    renders = shared / "renders"
    renders.mkdir(exist_ok=True)

    def rendered(**answers: str) -> Path:
        full = complete(answers)
        key = hashlib.sha256(json.dumps(full, sort_keys=True).encode()).hexdigest()[:12]
        return once(renders / key, lambda target: render_to(copier_template, target, full))

    return rendered


@pytest.fixture
def copy_of(render: Render, tmp_path: Path) -> Render:
    """Return a function from answers to a render of one's own, to change."""

    def copied(**answers: str) -> Path:
        return Path(shutil.copytree(render(**answers), tmp_path / "project"))

    return copied


@pytest.fixture
def released(copier_template: Path, shared: Path, tmp_path: Path) -> Callable[[str, Answers], Path]:
    """Return a function from a version and answers to a committed render of one's own."""

    def copied(version: str, answers: Answers) -> Path:
        def build(target: Path) -> None:
            render_to(copier_template, target, answers, version)
            git(target, "init", "--quiet", "--initial-branch=main")
            git(target, "add", "--all")
            git(target, "commit", "--quiet", "--message", "As rendered")

        rendered = once(shared / f"released-{version}-{label(answers)}", build)
        return Path(shutil.copytree(rendered, tmp_path / "project"))

    return copied


@pytest.fixture
def project(render: Render, answers: Answers) -> Path:
    """Return the render of one combination of the matrix."""
    return render(**answers)


def project_environment(project: Path, scratch: Path) -> dict[str, str]:
    """Return the environment of a project's commands: this machine's, with our uv on the path."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(NOT_INHERITED)}
    path = os.pathsep.join([str(Path(uv.find_uv_bin()).parent), kept.get("PATH", "")])
    stand_in = environment(project, scratch)
    return {**kept, **stand_in, "UV_PYTHON": sys.executable, "PATH": path}


@pytest.fixture(scope="session")
def tools(render: Render, shared: Path) -> Callable[[str], Path]:
    """Return a function from a framework to an environment with all that its projects install."""

    def installed(framework: str) -> Path:
        alike = [render(**answers) for answers in MATRIX if answers["framework"] == framework]
        return once(
            shared / f"tools-{framework}", lambda target: _install(alike, target, framework)
        )

    return installed


def _install(projects: list[Path], target: Path, framework: str) -> None:
    """Install the union of what the projects ask for."""
    merged = tomllib.loads((projects[0] / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {word for project in projects for word in requirements(project)}
    lines = ["[project]", f'name = "tools-{framework}"', 'version = "0"']
    lines += ['requires-python = ">=3.11"', f"dependencies = {json.dumps(sorted(wanted))}"]
    for index in merged["tool"]["uv"].get("index", []):
        lines += ["[[tool.uv.index]]", *(f"{k} = {json.dumps(v)}" for k, v in index.items())]
    for name, source in merged["tool"]["uv"].get("sources", {}).items():
        lines += [
            f"[tool.uv.sources.{name}]",
            *(f"{k} = {json.dumps(v)}" for k, v in source.items()),
        ]
    target.mkdir()
    (target / "pyproject.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    variables = project_environment(target, target / "index")
    subprocess.run(["uv", "sync", "--quiet"], cwd=target, env=variables, check=True)


def requirements(project: Path) -> set[str]:
    """Return every requirement in a project's pyproject.toml, of all groups."""
    settings: dict[str, Any] = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    groups = settings["dependency-groups"].values()
    return {*settings["project"]["dependencies"], *(word for group in groups for word in group)}
