"""Run the `run:` steps of a workflow's job on this machine; its actions are played by functions.

Enough of GitHub's expressions for our workflows: contexts, text, ==, !=, &&, ||, toJSON(context)
and !cancelled().
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Actions = Mapping[str, Callable[[dict[str, str]], None]]
CONTEXT = re.compile(
    r"'[^']*'|\b(?:github|env|vars|secrets|needs|inputs|steps|runner)(?:\.[\w-]+)+"
    r"|\btoJSON\(\w+\)"
)


@dataclass
class Job:
    """What a job is given, and what it leaves behind."""

    contexts: dict[str, Any]
    workspace: Path
    variables: dict[str, str]
    scratch: Path
    actions: Actions
    outcomes: dict[str, str] = field(default_factory=dict)
    printed: str = ""
    summary: str = ""
    passed: bool = True

    def value(self, expression: str) -> Any:
        """Evaluate an expression; an unknown name is empty, as it is on GitHub."""

        def looked_up(match: re.Match[str]) -> str:
            word = match.group()
            if word[0] == "'":
                return word
            if word.startswith("toJSON"):
                return repr(json.dumps(self.contexts[word[len("toJSON(") : -1]]))
            found: Any = self.contexts
            for part in word.split("."):
                found = (found or {}).get(part)
            asked = word.startswith(("steps.", "needs.", "inputs.")) and not self._skipped(word)
            if found is None and self.passed and asked:
                raise KeyError(f"{word}: nothing sets it, though GitHub would read it as empty")
            return repr(found or "")

        python = CONTEXT.sub(looked_up, expression).replace("!cancelled()", "True")
        python = python.replace("&&", " and ").replace("||", " or ")
        return eval(python, {"__builtins__": {}})  # noqa: S307  (our own workflows)

    def _skipped(self, word: str) -> bool:
        """Return whether a value is one of a step that was left out, which sets nothing."""
        step = self.contexts["steps"].get(word.split(".")[1], {})
        return word.startswith("steps.") and step.get("outcome") == "skipped"

    def filled(self, text: object) -> str:
        """Fill in `${{ … }}`."""
        return re.sub(r"\$\{\{(.*?)\}\}", lambda m: str(self.value(m[1].strip())), str(text))

    def environment(self, *levels: Mapping[str, Any] | None) -> dict[str, str]:
        """Return the variables of some levels, filled in."""
        return {name: self.filled(text) for level in levels for name, text in (level or {}).items()}

    def step(self, step: dict[str, Any], variables: dict[str, str]) -> None:
        """Run one step, unless its condition, or a failure before it, leaves it out."""
        name, key = step.get("name", step.get("uses", "")), step.get("id", "")
        condition = re.sub(r"^\$\{\{(.*)\}\}$", r"\1", str(step.get("if", "''== ''")))
        outcome = "skipped"
        if (self.passed or "cancelled()" in condition) and self.value(condition):
            outcome = self.execute(step, {**variables, **self.environment(step.get("env"))})
        self.outcomes[name] = outcome
        self.contexts["steps"].setdefault(key, {"outputs": {}})["outcome"] = outcome
        if outcome == "failure" and not step.get("continue-on-error"):
            self.passed = False

    def execute(self, step: dict[str, Any], variables: dict[str, str]) -> str:
        """Run a step's script, or play its action."""
        if "uses" in step:
            action = step["uses"].split("@")[0]
            self.actions[action](self.environment(step.get("with")))
            return "success"
        output, summary = self.scratch / "output", self.scratch / "summary"
        output.write_text("")
        summary.write_text("")
        done = subprocess.run(
            # A step that does not name its shell runs without pipefail.
            ["bash", "-e", *(["-o", "pipefail"] if step.get("shell") else []), "-c",
             self.filled(step["run"])],
            cwd=self.workspace,
            env={**self.variables, **variables, "GITHUB_OUTPUT": str(output),
                 "GITHUB_STEP_SUMMARY": str(summary)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        self.printed += done.stdout
        self.summary += summary.read_text()
        found = dict(line.split("=", 1) for line in output.read_text().splitlines())
        self.contexts["steps"].setdefault(step.get("id", ""), {})["outputs"] = found
        return "failure" if done.returncode else "success"


def run_job(workflow: Path, name: str, job: Job) -> Job:
    """Run a job's steps in order; return it with its outputs among the contexts."""
    steps = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"][name]
    job.contexts = {"steps": {}, "runner": {"temp": str(job.scratch)}, **job.contexts}
    job.variables = {**os.environ, "RUNNER_TEMP": str(job.scratch), **job.variables}
    own = job.environment(steps.get("env"))
    for step in steps["steps"]:
        job.step(step, own)
    job.contexts["outputs"] = job.environment(steps.get("outputs"))
    return job
