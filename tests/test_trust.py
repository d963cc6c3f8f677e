"""Nobody has to trust the template: rendering it runs nothing of ours but Jinja."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import Render
from questions import TEMPLATE
from test_renders import paths


@pytest.mark.parametrize("key", ["_tasks", "_migrations", "_jinja_extensions"])
def test_template_asks_for_no_trust(key: str) -> None:
    assert key not in yaml.safe_load((TEMPLATE / "copier.yml").read_text())


def test_command_line_renders_in_a_clean_environment(
    copier_template: Path, render: Render, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "copier", "copy", "--defaults"]
    done = subprocess.run(
        [*command, str(copier_template), str(tmp_path / "project")],
        env={"HOME": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = [path.relative_to(tmp_path / "project") for path in paths(tmp_path / "project")]
    assert names == [path.relative_to(render()) for path in paths(render())]


def test_closing_message_names_the_next_commands(copier_template: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "copier", "copy", "--defaults"]
    words = [*command, str(copier_template), str(tmp_path / "project")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    for step in (f"cd {tmp_path / 'project'}", "make install run", "make promote serve"):
        assert step in said
