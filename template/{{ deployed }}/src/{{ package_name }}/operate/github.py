"""GitHub's side, by `gh`: environments that hold approvals and variables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..release.command import attempt, run_json
from . import terraform
from .steps import Step, succeeds

PROTECTED = ("evaluation", "training", "staging", "production")  # for main only
ENVIRONMENTS = ("plan", *PROTECTED)  # pull requests plan; what may be refused is last
NO_REVIEWERS = (
    "GitHub takes no reviewer for production: a private repository needs GitHub Enterprise for "
    "that; for what else you can do, see the beginning of docs/deployment.md"
)


@dataclass(frozen=True)
class Repository:
    """A repository by its name, and by its number, which nobody can take over."""

    name: str
    number: str


def repository() -> Repository:
    """Return the repository of this folder."""
    found = run_json(["gh", "repo", "view", "--json", "nameWithOwner"])["nameWithOwner"]
    return Repository(found, str(run_json(["gh", "api", f"repos/{found}", "--jq", ".id"])))


def environments(here: Repository) -> list[Step]:
    """Return the steps to all environments; production waits for whoever runs this."""
    return [_environment(here, name) for name in ENVIRONMENTS]


def _environment(here: Repository, name: str) -> Step:
    path = f"repos/{here.name}/environments/{name}"
    rules: dict[str, object] = {"deployment_branch_policy": None}
    if name in PROTECTED:
        policy = {"protected_branches": False, "custom_branch_policies": True}
        rules["deployment_branch_policy"] = policy
    if name == "production":
        rules["reviewers"] = [
            {"type": "User", "id": run_json(["gh", "api", "user", "--jq", ".id"])}
        ]
        rules["prevent_self_review"] = False
    commands = [["gh", "api", "--method=PUT", path, "--input=-"]]
    if name in PROTECTED:
        commands.append(
            [
                "gh",
                "api",
                "--method=POST",
                f"{path}/deployment-branch-policies",
                "--field=name=main",
            ]
        )
    what = f"GitHub environment {name}" + (", with a reviewer" if name == "production" else "")
    refused = NO_REVIEWERS if name == "production" else None
    return Step(what, lambda: reviewed(here, name), commands, json.dumps(rules), refused)


def reviewed(here: Repository, name: str) -> bool:
    """Return whether an environment exists and, for production, waits for a reviewer."""
    path = f"repos/{here.name}/environments/{name}"
    if not succeeds("gh", "api", path):
        return False
    rules = run_json(["gh", "api", path]).get("protection_rules", [])
    kinds = {rule["type"] for rule in rules}
    needed = {"required_reviewers"} if name == "production" else set()
    return needed | ({"branch_policy"} if name in PROTECTED else set()) <= kinds


def variables(here: Repository, environment: str, wanted: Mapping[str, str]) -> list[Step]:
    """Return the steps that give an environment its variables."""
    found = run_json(_list(here, environment)) or []
    known = {each["name"]: each["value"] for each in found}
    return [_variable(here, environment, (name, wanted[name]), known) for name in wanted]


def _variable(
    here: Repository, environment: str, pair: tuple[str, str], known: Mapping[str, str]
) -> Step:
    name, value = pair
    words = ["gh", "variable", "set", name, f"--env={environment}", f"--repo={here.name}"]
    what = f"{environment}: {name}={value}"
    return Step(what, lambda: known.get(name) == value, [[*words, f"--body={value}"]])


def has_variables(here: Repository, environment: str, wanted: Mapping[str, str]) -> bool:
    """Return whether there are variables to want, and an environment has them with their values."""
    done = attempt(_list(here, environment))
    found = json.loads(done.stdout) if done.returncode == 0 else []
    known = {each["name"]: each["value"] for each in found}
    return bool(wanted) and wanted.items() <= known.items()


def has_applied(here: Repository, environment: str, backend: Sequence[str]) -> bool:
    """Return whether an environment has the variables that were applied to its Terraform state."""
    return has_variables(here, environment, terraform.variables(backend))


def _list(here: Repository, environment: str) -> list[str]:
    where = [f"--env={environment}", f"--repo={here.name}"]
    return ["gh", "variable", "list", *where, "--json=name,value"]
