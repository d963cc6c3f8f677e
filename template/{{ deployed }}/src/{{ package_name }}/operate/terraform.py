"""Terraform over a state of its own; which names it is given is the cloud's to say."""

import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ProjectError
from ..release.command import run_json
from ..settings import ROOT
from .steps import succeeds

FOLDER = ROOT / "deploy" / "terraform"


class TerraformFailedError(ProjectError):
    """Terraform did not do as asked; it has said why."""


def name() -> str:
    """Return what everything is called before the environment, as variables.tf has it."""
    text = (FOLDER / "variables.tf").read_text(encoding="utf-8")
    found = re.search(r'variable "name" \{.*?default\s*=\s*"([^"]+)"', text, re.DOTALL)
    return found[1] if found else ""


def called(environment: str) -> str:
    """Return what everything of an environment is called."""
    return f"{name()}-{environment}"


def among(kind: str, names: Iterable[str], environment: str) -> list[str]:
    """Return those of a kind's names that belong to an environment."""
    if kind == "registry":  # staging's alone, and called like both environments
        return [each for each in names if environment == "staging" and each == name()]
    return [each for each in names if called(environment) in each]


def run(environment: str, backend: Sequence[str], given: Sequence[str], words: list[str]) -> None:
    """Run a command on an environment's state, with its .tfvars if any.

    Raises
    ------
    TerraformFailedError
        It failed.
    """
    settings = FOLDER / f"{environment}.tfvars"
    file = [f"-var-file={settings.name}"] if settings.is_file() else []
    run_in(FOLDER, backend, given, [words[0], *file, *words[1:]])


def run_in(
    folder: Path, backend: Sequence[str], given: Sequence[str], words: Sequence[str]
) -> None:
    """Initialise a folder's state and run a command on it.

    Raises
    ------
    TerraformFailedError
        It failed.
    """
    initialise(folder, backend)
    _call(folder, words[0], *(f"-var={each}" for each in given), *words[1:])


def initialise(folder: Path, backend: Sequence[str]) -> None:
    """Let Terraform use a folder's state.

    Raises
    ------
    TerraformFailedError
        It failed.
    """
    _call(folder, *_init(backend))


def _init(backend: Sequence[str]) -> list[str]:
    configured = (f"-backend-config={each}" for each in backend)
    return ["init", "-reconfigure", "-input=false", *configured]


def variables(backend: Sequence[str]) -> dict[str, str]:
    """Return an environment's variables, as applied; none where nothing was."""
    if not succeeds("terraform", f"-chdir={FOLDER}", *_init(backend)):
        return {}
    return outputs().get("variables", {})


def outputs() -> dict[str, dict[str, str]]:
    """Return the outputs that hold variables."""
    return {key: each for key, each in printed(FOLDER).items() if key.endswith("variables")}


def printed(folder: Path) -> dict[str, Any]:
    """Return what Terraform printed of what it made."""
    found = run_json(["terraform", f"-chdir={folder}", "output", "-json"])
    return {name: each["value"] for name, each in found.items()}


def _call(folder: Path, *words: str) -> None:
    done = subprocess.run(["terraform", f"-chdir={folder}", *words], check=False)
    if done.returncode:
        raise TerraformFailedError(f"terraform {words[0]} failed with {done.returncode}")
