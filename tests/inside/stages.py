"""Tests run inside a rendered project: what changed runs again, and nothing is left by half."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from .. import digests, run_pipeline, settings, stages
from ..errors import StageError
from ..settings import PACKAGE
from .conftest import Project

NAMES = ("first", "second", "third")


class Line:
    """Three toy stages: the first reads a file, each writes what it was given and counts."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "artifacts"
        self.root.mkdir()
        self.input = folder / "input.txt"
        self.input.write_text("rows")
        self.ran: list[str] = []
        self.params: dict[str, dict[str, int]] = {name: {} for name in NAMES}
        self.modules: Sequence[ModuleType] = [settings]

    def stages(self) -> list[stages.Stage]:
        """Return the stages as they are now."""

        def make(name: str) -> stages.Stage:
            def run(out: Path) -> None:
                self.ran.append(name)
                (out / "output.txt").write_text(f"{name} {self.params[name]}")

            files = [self.input] if name == "first" else []
            return stages.Stage(name, run, self.modules, self.params[name], files)

        return [make(name) for name in NAMES]

    def run(self, first: str = "first", last: str = "third", *, force: bool = False) -> list[str]:
        """Run what is stale and return the names of what ran."""
        self.ran.clear()
        with stages.exclusive(self.root):
            planned = stages.plan(self.stages(), self.root, first=first, last=last, force=force)
            for stage, mark, stale in planned:
                if stale:
                    stages.execute(stage, mark, self.root)
        return list(self.ran)


@pytest.fixture
def line(tmp_path: Path) -> Line:
    """The toy stages, run once."""
    line = Line(tmp_path)
    assert line.run() == list(NAMES)
    return line


def test_what_has_not_changed_is_skipped(line: Line) -> None:
    assert line.run() == []


@pytest.mark.parametrize("position", range(3))
def test_a_changed_parameter_reruns_from_its_stage(line: Line, position: int) -> None:
    line.params[NAMES[position]] = {"changed": 1}
    assert line.run() == list(NAMES[position:])
    assert line.run() == []


def test_a_changed_input_reruns_everything(line: Line) -> None:
    line.input.write_text("other rows")
    assert line.run() == list(NAMES)


@pytest.mark.parametrize("damage", ["alter", "delete", "add", "record"])
def test_an_altered_output_reruns_from_its_stage(line: Line, damage: str) -> None:
    folder = line.root / "second"
    if damage == "delete":
        (folder / "output.txt").unlink()
    else:
        names = {"alter": "output.txt", "add": "extra.txt", "record": stages.RECORD}
        (folder / names[damage]).write_text("[]")
    assert line.run() == ["second", "third"]


def test_a_changed_source_reruns_even_when_imported_by_an_import(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    (package / "deep").mkdir(parents=True)
    sources = {
        "stage.py": "from .near import x",
        "near.py": "def f():\n    from .deep import far",
        "deep/__init__.py": "",
        "deep/far.py": "from ..absolute import y",
        "absolute.py": "import package.last",
        "last.py": "z = 1",
        "unrelated.py": "",
    }
    for name, text in sources.items():
        (package / name).write_text(text)
    monkeypatch.setattr(stages, "CODE", package)
    spec = importlib.util.spec_from_file_location("package.stage", package / "stage.py")
    assert spec is not None
    line.modules = [importlib.util.module_from_spec(spec)]
    line.run()
    for name, text in sources.items():
        (package / name).write_text(f"{text}\n# changed\n")
        assert line.run() == ([] if name == "unrelated.py" else list(NAMES)), name


def test_force_runs_what_has_not_changed_and_what_follows(line: Line) -> None:
    assert line.run(force=True) == list(NAMES)
    assert line.run("second", "second", force=True) == ["second"]


def test_to_stops_and_from_begins_there(line: Line) -> None:
    line.params["second"] = {"changed": 1}
    assert line.run(last="second") == ["second"]
    assert line.run("third") == ["third"]


def test_from_is_refused_while_an_earlier_stage_is_stale(line: Line) -> None:
    line.params["first"] = {"changed": 1}
    with pytest.raises(StageError, match="'second' needs the outputs of 'first'"):
        line.run("second")


def test_a_failing_stage_leaves_the_old_outputs_and_nothing_else(line: Line) -> None:
    def fail(out: Path) -> None:
        (out / "output.txt").write_text("half")
        raise ZeroDivisionError

    before = digests.tree_digest(line.root)
    stage = stages.Stage("second", fail, [settings])
    with pytest.raises(ZeroDivisionError):
        stages.execute(stage, "mark", line.root)
    assert digests.tree_digest(line.root) == before
    assert sorted(p.name for p in line.root.iterdir()) == [".lock", *sorted(NAMES)]


def test_the_python_and_what_is_added_are_depended_on(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "pyproject.toml"
    asked.write_text(
        "[project]\ndependencies = []\n[dependency-groups]\n"
        'train = ["pandas"]\nextra = ["numpy>=1"]\nextra-serving = ["pydantic"]\n'
    )
    monkeypatch.setattr(stages, "ROOT", tmp_path)
    assert set(stages.dependency_versions()) == {"numpy", "pandas", "pydantic"}
    line.run()
    monkeypatch.setattr(sysconfig, "get_python_version", lambda: "4.0")
    assert line.run() == list(NAMES)
    asked.write_text(asked.read_text().replace("numpy", "not-there"))
    with pytest.raises(StageError, match="names not-there, which is not installed; run `make ins"):
        line.run()


def test_a_model_that_is_not_exported_is_told(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    note = {"note": "not exported to ONNX: odd"}
    (project.outputs / "register/version.json").write_text(json.dumps(project.version() | note))
    run_pipeline.show(project.pipeline(), Console())
    assert "Served  natively, not exported to ONNX: odd" in capsys.readouterr().out


HANGING = """
import time
from pathlib import Path
from {package} import settings, stages
root = Path({root!r})
def hang(out):
    (out / "output.txt").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
with stages.exclusive(root):
    stages.execute(stages.Stage("second", hang, [settings]), "mark", root)
"""


def test_a_killed_run_leaves_nothing_half_written_and_the_next_completes(line: Line) -> None:
    code = HANGING.format(package=PACKAGE, root=str(line.root))
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        with pytest.raises(StageError, match=f"process {child.pid}.* wait for it or stop it"):
            line.run()
        os.kill(child.pid, signal.SIGKILL)
    assert (line.root / "second/output.txt").read_text() == "second {}"
    line.params["second"] = {"changed": 1}
    assert line.run() == ["second", "third"]
    assert sorted(p.name for p in line.root.iterdir()) == [".lock", *sorted(NAMES)]
