"""Run the `run:` steps of a workflow's job on this machine, in order, as a runner would.

Expressions are not evaluated but looked up by their exact text, so that a test says what each one
stands for and a misspelt one fails. Outputs of earlier steps are filled in.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
FILES = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")


@dataclass
class Ran:
    """What a job left: each step's exit code by name, its outputs by id, and the summary."""

    codes: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    said: str = ""


def run_job(
    workflow: Path,
    job: str,
    folder: Path,
    variables: Mapping[str, str],
    expressions: Mapping[str, object],
) -> Ran:
    """Run a job's steps in a folder; after one that fails, only those that say so still run.

    Parameters
    ----------
    workflow, job
        The workflow's file, and the job in it.
    folder
        Where the checked-out repository is.
    variables
        The runner's environment.
    expressions
        What each expression stands for, conditions included.
    """
    described: dict[str, Any] = yaml.safe_load(workflow.read_text())["jobs"][job]
    ran = Ran()
    known = dict(expressions)
    outer = {**described.get("env", {})}
    for step in described["steps"]:
        if "run" not in step or not _wanted(step, ran, known):
            continue
        given = {**outer, **step.get("env", {})}
        filled = {name: str(_fill(str(value), known)) for name, value in given.items()}
        code, outputs = _run(step, folder, {**variables, **filled}, ran)
        ran.codes[step["name"]] = code
        for name, value in outputs.items():
            ran.outputs[name] = value
            known[f"steps.{step.get('id')}.outputs.{name}"] = value
    return ran


def _wanted(step: Mapping[str, Any], ran: Ran, known: Mapping[str, object]) -> bool:
    failed = any(ran.codes.values())
    if "if" not in step:
        return not failed
    left, same, right = EXPRESSION.sub(r"\1", step["if"]).partition(" == ")
    if same:
        return not failed and str(known[left]) == right.strip("'")
    return bool(known[left])


def _fill(text: str, known: Mapping[str, object]) -> str:
    return EXPRESSION.sub(lambda found: str(known[found[1]]), text)


def _run(
    step: Mapping[str, Any], folder: Path, variables: Mapping[str, str], ran: Ran
) -> tuple[int, dict[str, str]]:
    assert EXPRESSION.search(step["run"]) is None, "a script takes its values from the environment"
    written = {name: folder.parent / f"{name}.txt" for name in FILES}
    for path in written.values():
        path.write_text("")
    done = subprocess.run(
        # A step that does not name its shell runs without pipefail.
        ["bash", "-e", *(["-o", "pipefail"] if step.get("shell") else []), "-c", step["run"]],
        cwd=folder,
        env={**variables, **{name: str(path) for name, path in written.items()}},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    ran.said += done.stdout + done.stderr
    ran.summary += written["GITHUB_STEP_SUMMARY"].read_text()
    lines = written["GITHUB_OUTPUT"].read_text().splitlines()
    return done.returncode, dict(line.split("=", 1) for line in lines)
