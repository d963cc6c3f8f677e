"""What plays the commands of a cloud, of GitHub and of Terraform."""

import json
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from ...operate import __main__ as operate
from ...operate import github, login, place, steps
from ...operate import terraform as terraform_command
from ...release import command

RULES = [{"type": "required_reviewers"}, {"type": "branch_policy"}]
GITHUB: dict[str, Any] = {
    "gh repo view": {"nameWithOwner": "acme/example"},
    "repos/acme/example/environments": {"protection_rules": RULES},
    "gh api repos/acme/example --jq .id": 123456,
    "gh api user": 7,
}


class Commands:
    """Knows what exists, and remembers what was made; a cloud's own says how it answers."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.missing: set[str] = set()
        self.left: dict[str, list[Any]] = {}
        self.failing: set[str] = set()
        self.refusing: dict[str, str] = {}  # parts of commands, and what is said then
        self.variables: dict[str, str] = {}  # of GitHub's environment
        names = (*login.REPOSITORY, *login.EVALUATION, *login.RELEASES, *login.SECRETS)
        self.held = {f"actions/{kind}s": set(names) for kind in ("variable", "secret")}

    def __call__(self, words: Sequence[str], text: str | None = None) -> "CompletedProcess[str]":
        line = " ".join(words)
        reads = self.reads(words) or list(words[:2]) == ["gh", "api"]
        if not reads or "--method=" in line:
            for part, said in self.refusing.items():
                if part in line:
                    return CompletedProcess(list(words), 1, "", said)
            self.made.append(f"{line} {text or ''}".strip())
            self.missing = {part for part in self.missing if part not in line}
            return CompletedProcess(list(words), 0, "", "")
        if "[].name" in line:
            names = next((names for end, names in self.held.items() if line.endswith(end)), set())
            return CompletedProcess(list(words), 0, "\n".join(names), "")
        if any(part in line for part in self.missing):
            return CompletedProcess(list(words), 1, "[]", "NOT_FOUND")
        if "--json=name,value" in line:
            known = [{"name": name, "value": value} for name, value in self.variables.items()]
            return CompletedProcess(list(words), 0, json.dumps(known), "")
        return CompletedProcess(list(words), 0, self.answer(line), "")

    def reads(self, words: Sequence[str]) -> bool:
        """Return whether a command only looks."""
        raise NotImplementedError

    def answer(self, line: str) -> str:
        """Return what a command prints that looks."""
        raise NotImplementedError

    def terraform(self, words: Sequence[str], check: bool) -> "CompletedProcess[str]":
        """Play Terraform where it talks to the user itself."""
        assert not check
        self.made.append(f"terraform {' '.join(words[2:])}")
        return CompletedProcess(list(words), int(words[2] in self.failing), "", "")

    def play(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        """Stand in for every command of this test."""
        (folder / "variables.tf").write_text('variable "name" {\n  default = "example"\n}\n')
        for module in (command, github, place, steps):
            monkeypatch.setattr(module, "attempt", self)
        monkeypatch.setattr("subprocess.run", self.terraform)
        monkeypatch.setattr(terraform_command, "FOLDER", folder)


def run(*words: str) -> int:
    """Run a command on production."""
    return operate.main([words[0], "--env", "production", *words[1:]])
