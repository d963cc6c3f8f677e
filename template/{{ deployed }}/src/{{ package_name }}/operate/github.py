"""GitHub's side, by `gh`: environments that hold approvals and variables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..release.command import attempt, run_json
from . import login, terraform
from .steps import Step, succeeds

ADDRESS = "MLFLOW_TRACKING_URI"  # whoever sets it has a registry
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


def checks(here: Repository, environment: str) -> list[Step]:
    """Return what the jobs of a release need: their environments, and a login to the registry."""
    bootstrap = [["make", "bootstrap", f"ENV={environment}", "ARGS=--yes"]]
    made = [
        Step(f"GitHub environment {name} and its rules", partial(reviewed, here, name), bootstrap)
        for name in ENVIRONMENTS
    ]
    return [*made, *_logins(here, environment)]


def _logins(here: Repository, environment: str) -> list[Step]:
    names = {"evaluation": login.EVALUATION, environment: login.RELEASES}
    seen = {each: _held(here, each, "variable") for each in names}
    everywhere = set.intersection(*seen.values())
    steps = [_held_as(here, "", "variable", name, everywhere) for name in login.REPOSITORY]
    for each, own in names.items():
        steps += [_held_as(here, each, "variable", name, seen[each]) for name in own]
        if login.SECRETS and ADDRESS in seen[each]:
            kept = _held(here, each, "secret")
            steps += [_held_as(here, each, "secret", name, kept) for name in login.SECRETS]
    return steps


def _held_as(here: Repository, environment: str, kind: str, name: str, seen: set[str]) -> Step:
    where = [f"--env={environment}"] if environment else []
    command = ["gh", kind, "set", name, *where, f"--repo={here.name}"]  # it asks for the value
    what = f"{kind} {name} of {environment or 'the repository'}"
    return Step(what, lambda: name in seen, [command])


def _held(here: Repository, environment: str, kind: str) -> set[str]:
    """Return the names that a job in an environment sees, whoever set them."""
    places = (f"environments/{environment}/", "actions/", "actions/organization-")
    ask = ["gh", "api", "--paginate", f"--jq=.{kind}s[].name"]
    found = [attempt([*ask, f"repos/{here.name}/{place}{kind}s"]) for place in places]
    return {name for each in found if each.returncode == 0 for name in each.stdout.split()}


def variables(here: Repository, environment: str, wanted: Mapping[str, str]) -> list[Step]:
    """Return the steps that give an environment its variables."""
    found = run_json(_list(here, environment)) or []
    there = {each["name"]: each["value"] for each in found}
    return [_variable(here, environment, (name, wanted[name]), there) for name in wanted]


def _variable(
    here: Repository, environment: str, pair: tuple[str, str], there: Mapping[str, str]
) -> Step:
    name, value = pair
    words = ["gh", "variable", "set", name, f"--env={environment}", f"--repo={here.name}"]
    what = f"{environment}: {name}={value}"
    return Step(what, lambda: there.get(name) == value, [[*words, f"--body={value}"]])


def has_variables(here: Repository, environment: str, wanted: Mapping[str, str]) -> bool:
    """Return whether there are variables to want, and an environment has them with their values."""
    return bool(wanted) and wanted.items() <= known(here, environment).items()


def known(here: Repository, environment: str) -> dict[str, str]:
    """Return an environment's variables; none where it is not there, or may not be asked."""
    done = attempt(_list(here, environment))
    found = json.loads(done.stdout) if done.returncode == 0 else []
    return {each["name"]: each["value"] for each in found}


def has_applied(here: Repository, environment: str, backend: Sequence[str]) -> bool:
    """Return whether an environment has the variables that were applied to its Terraform state."""
    return has_variables(here, environment, terraform.variables(backend))


def _list(here: Repository, environment: str) -> list[str]:
    where = [f"--env={environment}", f"--repo={here.name}"]
    return ["gh", "variable", "list", *where, "--json=name,value"]
