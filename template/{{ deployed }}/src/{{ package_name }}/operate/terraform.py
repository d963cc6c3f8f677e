"""Terraform over a state of its own; which names it is given is the cloud's to say."""

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, ProjectError
from ..release.command import run_json
from ..settings import ROOT
from .steps import succeeds

FOLDER = ROOT / "deploy" / "terraform"
LIST = "terraform -chdir=deploy/terraform state list"


class TerraformFailedError(ProjectError):
    """Terraform did not do as asked; it has said why."""


def name() -> str:
    """Return what everything is called before the environment, as variables.tf has it."""
    text = (FOLDER / "variables.tf").read_text(encoding="utf-8")
    found = re.search(r'variable "name" \{.*?default\s*=\s*"([^"]+)"', text, re.DOTALL)
    return found[1] if found else ""


def refuse_settings(instead: Mapping[str, str]) -> None:
    """Refuse what a .tfvars sets although commands around Terraform must know it as well.

    Raises
    ------
    ConfigError
        One sets such a variable, and so only Terraform would go by it.
    """
    for file in sorted(FOLDER.glob("*.tfvars")):
        for found in re.findall(r"^(\w+)\s*=", file.read_text(encoding="utf-8"), re.MULTILINE):
            if found in instead:
                raise ConfigError(
                    f"{file.name} sets {found}, which only Terraform would go by: take it from "
                    f"there, and {instead[found]}"
                )


def called(environment: str) -> str:
    """Return what everything of an environment is called."""
    return f"{name()}-{environment}"


def among(kind: str, names: Iterable[str], environment: str) -> list[str]:
    """Return those of a kind's names that belong to an environment."""
    if kind == "registry":  # staging's alone, and called like both environments
        return [each for each in names if environment == "staging" and each == name()]
    return [each for each in names if called(environment) in each]


def refuse_elsewhere(environment: str, where: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Refuse to look for an environment elsewhere than it is.

    Raises
    ------
    ConfigError
        It is known to be where these variables do not say.
    """
    for name, value in where.items():
        if (there := known.get(name, value)) != value:
            raise ConfigError(
                f"{environment} was made with {name}={there}, and {name} is {value} here: export "
                f"{name}={there}; to move it, destroy it there, and delete GitHub's {name} of it"
            )


def run(
    environment: str,
    backend: Sequence[str],
    given: Sequence[str],
    words: Sequence[str],
    where: Mapping[str, str],
) -> None:
    """Run a command on an environment's state, with its .tfvars if any; what is given wins.

    Raises
    ------
    ConfigError
        The environment was applied elsewhere than these variables say.
    TerraformFailedError
        It failed.
    """
    initialise(FOLDER, backend)
    refuse_elsewhere(environment, where, outputs().get("variables", {}))
    settings = FOLDER / f"{environment}.tfvars"
    file = [f"-var-file={settings.name}"] if settings.is_file() else []
    _call(FOLDER, words[0], *file, *(f"-var={each}" for each in given), *words[1:])


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
