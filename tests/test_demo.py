"""`make demo` says in one line what is wrong with an answer, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from questions import TEMPLATE

WRONG = {
    "task=foo": "'foo' is not in ['classification', 'regression']",
    "package_name=class": "'class' is a Python keyword",
    "fraemwork=sklearn": "there is no question 'fraemwork'",
    "sklearn": "write it as question=answer",
}


@pytest.mark.parametrize("answer", WRONG)
def test_wrong_answer_gets_one_line(answer: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/demo.py", answer],
        cwd=TEMPLATE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).splitlines()
    assert WRONG[answer] in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.executed
@pytest.mark.xdist_group("demo")
def test_demo_ends_with_an_answer_and_a_stopped_server(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/demo.py", "project_name=Late Flights", "task=regression"],
        cwd=TEMPLATE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"model": {"name": "late_flights", "version": "1"}' in done.stdout
    log = next(tmp_path.glob("mlops-demo-*/logs/serve.log")).read_text()
    assert "Application shutdown complete" in log
    assert "Traceback" not in log
