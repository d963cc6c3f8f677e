"""The workflows, ours and a project's, are valid, pinned and ask for little."""

import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Render
from matrix import MATRIX, Answers
from questions import TEMPLATE

BIN = Path(sys.executable).parent
PINS = tomllib.loads((TEMPLATE / "extensions" / "actions.toml").read_text(encoding="utf-8"))
USED = re.compile(r"(?m)^\s+(?:- )?uses: (\S+?)@(\S+)(?: # (\S+))?$")
LINTERS = {
    "actionlint": ["actionlint"],
    "zizmor": ["zizmor", "--offline", "--no-progress", "--min-severity=low", "--quiet"],
    "schema": ["check-jsonschema", "--builtin-schema=vendor.github-workflows"],
}
# What a step that asks the registry is told besides its address, by the answer to `tracking`.
PASSWORD = {
    name: f"${{{{ secrets.{name} }}}}"
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
}
NAMES = ("MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME", "MODEL_NAME")
KEYLESS: dict[str, dict[str, str]] = {
    "databricks": {
        **{
            name: f"${{{{ vars.{name} }}}}"
            for name in (*NAMES, "DATABRICKS_HOST", "DATABRICKS_CLIENT_ID")
        },
        "DATABRICKS_AUTH_TYPE": "github-oidc",
    },
    "sagemaker": {},
}
ASKS = re.compile(r"promote_model|monitor_model|make run\b|make release-bundle")
AWS_LOGIN = {"role-to-assume": "${{ vars.AWS_ROLE_ARN }}", "aws-region": "${{ vars.AWS_REGION }}"}


@pytest.fixture(scope="module")
def projects(render: Render) -> list[Path]:
    """Return the projects of all combinations."""
    return [render(**answers) for answers in MATRIX]


@pytest.fixture(scope="module")
def workflows(projects: list[Path]) -> list[Path]:
    """Return our workflows and all that differ among the projects'."""
    folders = [TEMPLATE, *projects]
    files = [path for folder in folders for path in (folder / ".github/workflows").glob("*.yml")]
    return list({path.read_bytes(): path for path in files}.values())


@pytest.fixture(scope="module")
def actions(projects: list[Path]) -> list[Path]:
    """Return the actions that projects bring themselves."""
    files = [path for each in projects for path in each.glob(".github/actions/*/action.yml")]
    return list({path.read_bytes(): path for path in files}.values())


@pytest.mark.parametrize("linter", LINTERS)
def test_linter_finds_nothing(linter: str, workflows: list[Path]) -> None:
    name, *options = LINTERS[linter]
    words = [str(BIN / name), *options, *map(str, workflows)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_pipe_hides_that_a_command_failed(workflows: list[Path]) -> None:
    """A step that does not name its shell runs without pipefail."""
    for path in workflows:
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
        steps = [step for job in jobs for step in job.get("steps", []) if "shell" not in step]
        for step in steps:
            unquoted = re.sub(r"""'[^']*'|"[^"]*\"""", "", step.get("run", ""))
            assert not re.search(r"(?<!\|)\|(?!\|)", unquoted), (path, step["name"])


def test_actions_are_pinned_as_listed(workflows: list[Path], actions: list[Path]) -> None:
    used = {
        (match[1], match[3], match[2])
        for path in [*workflows, *actions]
        for match in USED.finditer(path.read_text(encoding="utf-8"))
    }
    assert used == {(name, *pin) for name, pin in PINS.items()}


def test_jobs_have_a_time_limit_and_no_standing_rights(workflows: list[Path]) -> None:
    for path in workflows:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] in ({}, {"contents": "read"}), path
        limits = {
            f"{path.name}: {name}": job["timeout-minutes"] for name, job in workflow["jobs"].items()
        }
        assert all(most <= 60 for name, most in limits.items() if name not in RELEASING), path


# What the program of a release may wait for, besides a canary: deployments, and smoke tests.
RELEASING = {
    "cd.yml: staging": (3, 2),
    "cd.yml: production": (3, 2),
    "rollback.yml: rollback": (2, 0),
}
SIGNED_IN = 7200  # seconds; what identity.tf allows on ECS
PREPARING = 5  # minutes; checkout, install, sign in, and what the registry is asked
LOOKING = 5  # seconds; what a look at a canary takes, besides the time between two


def test_jobs_that_release_outlast_the_program(project: Path, answers: Answers) -> None:
    if answers["cloud"] == "none":
        pytest.skip("nothing is released")
    waits = "cloud" if answers["cloud"] == "ecs" else "command"
    (source,) = project.glob(f"src/*/release/{waits}.py")
    found = re.search(
        r"^(?:DEPLOYMENT|TIMEOUT)_SECONDS = ([0-9.]+)$", source.read_text(), re.MULTILINE
    )
    assert found
    plan = yaml.safe_load((project / "configs/release.yaml").read_text())
    longest = 1 + LOOKING / plan["look_seconds"]
    canary = sum(step["minutes"] for step in plan["canary"]) * longest
    limits = {name: job["timeout-minutes"] for name, job in jobs(project)}
    for name, (deployments, smokes) in RELEASING.items():
        waited = deployments * float(found[1]) / 60 + smokes * plan["ready_seconds"] / 60
        waited += PREPARING + (canary if name.endswith("production") else 0)
        assert waited <= limits[name] < min(waited + 10, SIGNED_IN / 60), name
    if answers["cloud"] == "ecs":
        action = yaml.safe_load((project / ".github/actions/cloud/action.yml").read_text())
        given = next(s["with"] for s in action["runs"]["steps"] if "with" in s)
        identity = (project / "deploy/terraform/identity.tf").read_text()
        assert given["role-duration-seconds"] == SIGNED_IN
        assert re.search(rf"max_session_duration = {SIGNED_IN}$", identity, re.MULTILINE)


def jobs(project: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each job of a project's workflows, by name."""
    for path in sorted((project / ".github/workflows").glob("*.yml")):
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            yield f"{path.name}: {name}", job


def test_registry_is_asked_with_the_login_of_its_answer(project: Path, answers: Answers) -> None:
    tracking = answers["tracking"]
    for name, job in jobs(project):
        if "MLFLOW_TRACKING_URI" not in str(job):
            continue
        asking = [step for step in job["steps"] if ASKS.search(step.get("run", ""))]
        assert asking, name
        for step in asking:
            told = {**job.get("env", {}), **step["env"]} if "env" in step else job["env"]
            assert told["MLFLOW_TRACKING_URI"] == "${{ vars.MLFLOW_TRACKING_URI }}", name
            assert told.items() >= KEYLESS.get(tracking, PASSWORD).items(), name
            assert told.items() >= {n: f"${{{{ vars.{n} }}}}" for n in NAMES[1:]}.items(), name
        assert tracking not in KEYLESS or not [word for word in PASSWORD if word in str(job)], name


UNASKED = {"MODEL_NAME", "MODEL_SOURCE", "SMOKE_API_KEY", "MLFLOW_TRACKING_URI"}  # may be absent


def test_doctor_asks_for_what_a_releases_jobs_sign_in_by(project: Path, answers: Answers) -> None:
    if answers["cloud"] == "none":
        pytest.skip("nothing is released")
    (source,) = project.glob("src/*/operate/login.py")
    login = runpy.run_path(str(source))
    everywhere = {*login["REPOSITORY"], *login["SECRETS"]}
    asked = {
        "model": login["EVALUATION"],
        **dict.fromkeys(("staging", "production"), login["RELEASES"]),
    }
    told = dict(jobs(project))
    named = {"MLFLOW_EXPERIMENT_NAME"} if answers["tracking"] != "databricks" else set()
    for name, own in asked.items():
        used = set(re.findall(r"(?:vars|secrets)\.(\w+)", str(told[f"cd.yml: {name}"])))
        assert used - UNASKED - named <= {*everywhere, *own} <= used, name
    if answers["tracking"] in KEYLESS:
        assert "MLFLOW_TRACKING_URI" in everywhere


def test_tokens_are_for_jobs_that_sign_in_by_them(project: Path, answers: Answers) -> None:
    for name, job in jobs(project):
        deploys = any(step.get("uses") == "$/.github/actions/cloud" for step in job["steps"])
        asks = "MLFLOW_TRACKING_URI" in str(job) and answers["tracking"] in KEYLESS
        assert ("id-token" in job.get("permissions", {})) == (deploys or asks), name


def test_role_is_taken_before_the_registry_is_asked_and_once(
    project: Path, answers: Answers
) -> None:
    for name, job in jobs(project):
        steps = job["steps"]
        own = [at for at, step in enumerate(steps) if "aws-actions/" in step.get("uses", "")]
        cloud = [at for at, step in enumerate(steps) if step.get("uses", "").startswith("$/")]
        if answers["tracking"] != "sagemaker" or "MLFLOW_TRACKING_URI" not in str(job):
            assert own == [], name
            continue
        (taken,) = cloud if cloud and answers["cloud"] == "ecs" else own
        first = next(at for at, step in enumerate(steps) if ASKS.search(step.get("run", "")))
        assert taken < first, name
        assert all(steps[at]["with"] == AWS_LOGIN for at in own), name
