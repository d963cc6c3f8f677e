"""The release workflows, step by step, with every command of clouds and tools recorded."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Render
from local_actions import Job, run_job
from matrix import CHOICES
from questions import TEMPLATE

CLOUDS = [cloud for cloud in CHOICES["cloud"] if cloud != "none"]
PINS = tomllib.loads((TEMPLATE / "extensions" / "actions.toml").read_text())
VARS = {"MODEL_SOURCE": "baked", "IMAGE_REPOSITORY": "registry/app"}

# Stands in for make, uv, gcloud, docker and the rest: writes down what it was asked, and says what
# the real one would say where a step reads it.
RECORDER = """#!{python}
import json, os, pathlib, sys
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
line = " ".join([name, *words])
asked = ("ENV", "VARIABLES", "SMOKE_API_KEY", "TO", "REASON")
known = {{k: os.environ[k] for k in asked if os.environ.get(k)}}
with open(os.environ["RECORD"], "a") as record:
    record.write(json.dumps([line, known]) + "\\n")
for part, text in json.loads(os.environ["SAYS"]).items():
    if part in line:
        print(text)
sys.exit(int(any(part and part in line for part in os.environ["FAILS"].split(";"))))
"""
DECISION = {"version": "3", "sha256": "a" * 64}
GATES = [
    {"name": "holdout", "passed": True, "measured": "sha256 feed", "bound": "frozen feed"},
    {"name": "improvement", "passed": False, "measured": "+0.10%", "bound": "more than 0.50%"},
]
EVALUATED = {**DECISION, "model": "flights", "expect": "2", "gates": GATES}


class Recorded:
    """A folder of recorders in front of PATH, and what they were asked."""

    def __init__(self, folder: Path, workspace: Path) -> None:
        self.folder, self.workspace = folder, workspace
        (folder / "bin").mkdir(parents=True)
        for name in ("make", "uv", "gcloud", "docker", "aws", "gh", "terraform"):
            path = folder / "bin" / name
            path.write_text(RECORDER.format(python=sys.executable))
            path.chmod(0o755)
        self.record = folder / "record"
        self.record.touch()
        self.fails = ""
        self.says = {
            "promote_model evaluate": json.dumps(EVALUATED),
            "promote_model promote": json.dumps({"moved": True}),
        }
        registered = workspace / "artifacts/register/version.json"
        registered.parent.mkdir(parents=True)
        registered.write_text(json.dumps({"version": "3"}))  # by `make run`
        self.used: list[tuple[str, dict[str, str]]] = []

    def action(self, name: str) -> Callable[[dict[str, str]], None]:
        return lambda given: self.used.append((name, given))

    def lines(self) -> list[str]:
        return [json.loads(line)[0] for line in self.record.read_text().splitlines()]

    def variables(self, part: str) -> dict[str, str]:
        """Return the variables that a recorded command was given."""
        for line in self.record.read_text().splitlines():
            said, known = json.loads(line)
            if part in said:
                return dict(known)
        raise AssertionError(part)

    def job(self, workflow: str, name: str, **contexts: Any) -> Job:
        variables = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "RECORD": str(self.record),
            "SAYS": json.dumps(self.says),
            "FAILS": self.fails,
        }
        actions = {key: self.action(key) for key in [*PINS, "$/.github/actions/cloud"]}
        job = Job(
            {"vars": VARS, "secrets": {"SMOKE_API_KEY": "key"}, **contexts},
            self.workspace, variables, self.folder, actions,
        )  # fmt: skip
        return run_job(self.workspace / ".github/workflows" / workflow, name, job)


@pytest.fixture(params=CLOUDS)
def recorded(request: pytest.FixtureRequest, render: Render, tmp_path: Path) -> Recorded:
    rendered = render(cloud=request.param)
    workspace = Path(shutil.copytree(rendered, tmp_path / "project"))
    return Recorded(tmp_path / "recorded", workspace)


def made(
    project: Path, target: str, folder: Path, **given: str
) -> subprocess.CompletedProcess[str]:
    """Make a target, with what would run printed instead; a command with FAILS in it fails."""
    uv = folder / "uv"
    uv.write_text(
        '#!/bin/sh\nshift 2; echo "$*"; case "$*" in *"${FAILS:-nothing}"*) exit 1; esac\n'
    )
    uv.chmod(0o755)
    return subprocess.run(
        ["make", "--silent", target, f"UV={uv}"],
        cwd=project, env={"PATH": os.environ["PATH"], **given}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def inputs(**given: str) -> dict[str, Any]:
    return {
        "inputs": {
            "version": "",
            "reason": "because",
            "new_holdout": "",
            "action": "promote",
            **given,
        }
    }


def test_cd_trains_judges_builds_and_releases(recorded: Recorded) -> None:
    model = recorded.job("cd.yml", "model", **inputs())
    assert model.passed, model.printed
    assert model.contexts["outputs"] == DECISION
    needs = {"needs": {"model": {"outputs": model.contexts["outputs"]}}}
    for name in ("build", "staging", "production"):
        done = recorded.job("cd.yml", name, **inputs(), **needs)
        assert done.passed, done.printed
    assert recorded.lines() == [
        "make install",
        "make run",
        "uv run --no-sync promote_model evaluate --version 3 --json",
        "make release-bundle VERSION=3",
        "make install",
        "make release-build",
        "make sbom",
        "make install",
        "make release-deploy",
        "make install",
        "make release-deploy",
    ]


SHARED = {**VARS, "MLFLOW_TRACKING_URI": "https://mlflow.example"}
NEEDS = {"needs": {"model": {"outputs": DECISION}}}
FETCHED = {**SHARED, "MODEL_SOURCE": "registry"}


def promoted(stage: str, last: str = "--reason because") -> str:
    words = f"--to {stage} --version 3 --sha256 {'a' * 64} {last}"
    return f"uv run --no-sync promote_model promote {words}"


def asked(stage: str) -> list[str]:
    """Return what a job asks the registry before its release."""
    return [promoted(stage, "--dry-run")] if stage == "production" else []


def test_version_that_is_named_is_not_trained(recorded: Recorded) -> None:
    recorded.job("cd.yml", "model", **inputs(version="2"), vars=SHARED)
    assert "uv run --no-sync promote_model evaluate --version 2 --json" in recorded.lines()
    assert "make run" not in recorded.lines()
    assert not [line for line in recorded.lines() if " promote " in line]


@pytest.mark.parametrize(("known", "signed_in"), [(VARS, 0), (SHARED, 1)])
def test_role_of_a_registry_is_taken_only_where_there_is_one(
    known: dict[str, str], signed_in: int, render: Render, tmp_path: Path
) -> None:
    project = render(cloud=CLOUDS[0], tracking="sagemaker")
    workspace = Path(shutil.copytree(project, tmp_path / "project"))
    recorded = Recorded(tmp_path / "recorded", workspace)
    done = recorded.job("cd.yml", "model", **inputs(), vars={"AWS_ROLE_ARN": "role", **known})
    assert done.passed, done.printed
    roles = [given["role-to-assume"] for _, given in recorded.used if "role-to-assume" in given]
    assert roles == ["role"] * signed_in


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_model_moves_once_its_release_serves(stage: str, recorded: Recorded) -> None:
    recorded.job("cd.yml", stage, **inputs(), **NEEDS, vars=SHARED)
    released = [*asked(stage), "make release-deploy", promoted(stage)]
    assert recorded.lines() == ["make install", *released]


def test_traffic_stays_where_the_registry_would_refuse_the_model(recorded: Recorded) -> None:
    recorded.fails = "--dry-run"
    done = recorded.job("cd.yml", "production", **inputs(), **NEEDS, vars=SHARED)
    assert not done.passed
    assert recorded.lines() == ["make install", *asked("production")]


@pytest.mark.parametrize("known", [SHARED, FETCHED], ids=["baked", "registry"])
def test_new_holdout_is_judged_on_and_frozen_with_staging_if_told(
    known: dict[str, str], recorded: Recorded
) -> None:
    given = inputs(new_holdout="true")
    for name in ("model", "staging", "production"):
        recorded.job("cd.yml", name, **given, **NEEDS, vars=known)
    told = [line for line in recorded.lines() if "--new-holdout" in line]
    assert told == [
        "uv run --no-sync promote_model evaluate --version 3 --new-holdout --json",
        promoted("staging", "--new-holdout --reason because"),
    ]


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_failed_release_does_not_move_the_model(stage: str, recorded: Recorded) -> None:
    recorded.fails = "release-deploy"
    done = recorded.job("cd.yml", stage, **inputs(), **NEEDS, vars=SHARED)
    assert not done.passed
    assert recorded.lines() == ["make install", *asked(stage), "make release-deploy"]


@pytest.mark.parametrize(("stage", "told"), [("staging", ""), ("production", " --json")])
def test_model_moves_first_where_the_image_takes_it_from_the_registry(
    stage: str, told: str, recorded: Recorded
) -> None:
    recorded.job("cd.yml", stage, **inputs(), **NEEDS, vars=FETCHED)
    assert recorded.lines() == ["make install", promoted(stage) + told, "make release-deploy"]


@pytest.mark.parametrize("tracking", ["databricks", "sagemaker"])
def test_a_registry_that_no_service_reads_is_moved_after_the_release_only(
    tracking: str, render: Render, tmp_path: Path
) -> None:
    project = render(cloud=CLOUDS[0], tracking=tracking)
    recorded = Recorded(tmp_path / "recorded", Path(shutil.copytree(project, tmp_path / "project")))
    for stage in ("staging", "production"):
        recorded.record.write_text("")
        recorded.job("cd.yml", stage, **inputs(), **NEEDS, vars=FETCHED)
        released = [*asked(stage), "make release-deploy", promoted(stage)]
        assert recorded.lines() == ["make install", *released]
    told = [p for p in project.rglob("*") if p.is_file() and p.suffix in {".mk", ".yml", ".md"}]
    offering = [p.name for p in told if "MODEL_SOURCE=registry" in p.read_text()]
    assert offering == [f"{tracking}.md"]  # where it is said to be refused


@pytest.mark.parametrize("moved", [True, False])
def test_only_a_model_that_moved_first_is_taken_back(moved: bool, recorded: Recorded) -> None:
    recorded.fails = "release-deploy"
    recorded.says["promote_model promote"] = json.dumps({"moved": moved})
    done = recorded.job("cd.yml", "production", **inputs(), **NEEDS, vars=FETCHED)
    assert not done.passed
    back = "uv run --no-sync promote_model rollback --reason Its release failed"
    assert recorded.lines()[2:] == ["make release-deploy", *([back] if moved else [])]


@pytest.mark.parametrize("failing", ["promote_model evaluate", "bundle"])
def test_version_that_fails_its_gates_is_not_built(failing: str, recorded: Recorded) -> None:
    recorded.fails = failing
    done = recorded.job("cd.yml", "model", **inputs())
    assert not done.passed
    kept = [given["name"] for name, given in recorded.used if name == "actions/upload-artifact"]
    assert kept == ["model-card"]


@pytest.mark.parametrize("workflow", [("cd.yml", "model"), ("promote.yml", "evaluate")], ids=str)
def test_author_and_approver_read_each_gate_on_the_runs_page(
    workflow: tuple[str, str], recorded: Recorded
) -> None:
    recorded.fails = "promote_model evaluate"
    done = recorded.job(*workflow, **inputs(version="3"), vars=SHARED)
    assert not done.passed
    assert done.summary.splitlines()[0] == "## flights version 3, production is at 2"
    assert "| improvement | **FAIL** | +0.10% | more than 0.50% |" in done.summary
    assert "| holdout | pass | sha256 feed | frozen feed |" in done.summary


APPROVED = {"needs": {"evaluate": {"outputs": {**DECISION, "expect": "2"}, "result": "success"}}}
SKIPPED = {
    "needs": {
        "evaluate": {"outputs": {**dict.fromkeys(DECISION, ""), "expect": ""}, "result": "skipped"}
    }
}


@pytest.mark.parametrize("known", [SHARED, FETCHED], ids=["baked", "registry"])
def test_stage_moves_alone_only_where_the_service_reads_the_registry(
    known: dict[str, str], recorded: Recorded
) -> None:
    done = recorded.job("promote.yml", "promote", **inputs(), **APPROVED, vars=known)
    assert done.passed == (known is FETCHED)
    assert bool([line for line in recorded.lines() if "--to production" in line]) == done.passed
    assert ("start cd.yml instead" in done.printed) != done.passed


@pytest.mark.parametrize("action", ["rollback", "break-lock"])
def test_production_is_taken_back_without_new_measures(action: str, recorded: Recorded) -> None:
    given = inputs(action=action)
    done = recorded.job("promote.yml", "promote", **given, **SKIPPED, vars=FETCHED)
    assert done.passed, done.printed
    why = " --reason because" if action == "rollback" else ""
    assert recorded.lines() == ["make install", f"uv run --no-sync promote_model {action}{why}"]
    jobs = yaml.safe_load((recorded.workspace / ".github/workflows/promote.yml").read_text())[
        "jobs"
    ]
    assert {name: runs(job, given, SKIPPED) for name, job in jobs.items()} == {
        "evaluate": False, "promote": True,
    }  # fmt: skip


@pytest.mark.parametrize("result", ["success", "failure", "skipped"])
def test_production_moves_only_once_the_gates_let_it(result: str, recorded: Recorded) -> None:
    jobs = yaml.safe_load((recorded.workspace / ".github/workflows/promote.yml").read_text())[
        "jobs"
    ]
    needs = {"needs": {"evaluate": {"result": result}}}
    assert runs(jobs["promote"], inputs(), needs) == (result == "success")


def runs(job: dict[str, Any], *contexts: dict[str, Any]) -> bool:
    """Return whether GitHub would start a job."""
    known = {name: value for context in contexts for name, value in context.items()}
    return bool(Job({"steps": {}, **known}, Path(), {}, Path(), {}).value(job["if"].strip("${} ")))


@pytest.mark.parametrize("tracking", ["databricks", "sagemaker"])
def test_stage_never_moves_alone_where_no_service_reads_the_registry(
    tracking: str, render: Render
) -> None:
    deployed = render(cloud=CLOUDS[0], tracking=tracking)
    assert not (deployed / ".github/workflows/promote.yml").exists()
    assert "promote.yml" not in "".join(path.read_text() for path in deployed.rglob("*.md"))
    assert (render(tracking=tracking) / ".github/workflows/promote.yml").exists()


@pytest.mark.parametrize("tracking", ["databricks", "sagemaker"])
def test_what_needs_a_registry_is_not_offered_where_no_service_reads_it(
    tracking: str, render: Render
) -> None:
    deployed = render(cloud=CLOUDS[0], tracking=tracking)
    stages = re.findall(r"(?m)^FROM .* AS (\S+)$", (deployed / "deploy/Dockerfile").read_text())
    assert "baked" in stages
    assert "registry" not in stages
    told = (deployed / "docs/serving.md").read_text()
    assert [word for word in ("WEBHOOK_SECRET", "/hooks/registry", "webhook") if word in told] == []
    assert "webhook" in (render(cloud=CLOUDS[0]) / "docs/serving.md").read_text()


def test_each_job_is_given_its_environment(recorded: Recorded) -> None:
    for name in ("staging", "production"):
        recorded.record.write_text("")
        recorded.job("cd.yml", name, **inputs(), **NEEDS)
        given = recorded.variables("make release-deploy")
        assert given["ENV"] == name
        assert json.loads(given["VARIABLES"]) == VARS
        assert given["SMOKE_API_KEY"] == "key"


def test_rollback_goes_back_and_unlocks_only_if_told(recorded: Recorded) -> None:
    given = {"environment": "production", "release": "r1", "reason": "it's $(bad)", "unlock": ""}
    done = recorded.job("rollback.yml", "rollback", inputs=given)
    assert done.passed, done.printed
    assert recorded.lines() == ["make install", "make rollback"]
    told = recorded.variables("make rollback")
    assert (told["TO"], told["REASON"]) == ("r1", "it's $(bad)")
    recorded.record.write_text("")
    recorded.job("rollback.yml", "rollback", inputs={**given, "unlock": "true"})
    assert "make unlock" in recorded.lines()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_a_rollback_is_told_is_text_and_no_command(
    cloud: str, copy_of: Render, tmp_path: Path
) -> None:
    project = copy_of(cloud=cloud)
    (tmp_path / "uv").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "uv").chmod(0o755)
    told = """$(shell touch made) $5 "; touch made; " `touch made` it's"""
    given = {**os.environ, "ENV": "production", "TO": told, "REASON": told}
    done = subprocess.run(
        ["make", "--silent", "rollback", f"UV={tmp_path / 'uv'}"],
        cwd=project, env=given, capture_output=True, text=True, check=True,
    )  # fmt: skip
    words = ["run", "--no-sync", "release", "rollback", "--env", "production"]
    assert done.stdout.splitlines() == [*words, "--to", told, "--reason", told]
    assert not (project / "made").exists()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_rollback_of_a_stage_says_that_the_service_stays(
    cloud: str, render: Render, tmp_path: Path
) -> None:
    def back(**given: str) -> tuple[str, str]:
        done = made(render(cloud=cloud), "rollback", tmp_path, **given)
        return done.stdout, done.stderr

    said = "A deployed image that holds its model serves it on: make rollback ENV=production\n"
    assert back() == ("promote_model rollback\n", said)
    released, silence = back(ENV="production")
    assert released.startswith("release rollback --env production")
    assert silence == ""


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("tracking", ["databricks", "sagemaker"])
def test_doctor_checks_the_registry_and_where_asked_the_cloud(
    tracking: str, cloud: str, render: Render, tmp_path: Path
) -> None:
    project = render(tracking=tracking, cloud=cloud)
    registry, place = "flight_delays.doctor", "flight_delays.operate doctor --env staging"

    def doctor(**given: str) -> tuple[bool, list[str]]:
        done = made(project, "doctor", tmp_path, **given)
        return done.returncode == 0, done.stdout.splitlines()

    hint = "ENV=staging or ENV=production also checks what releases need"
    assert doctor() == (True, [f"python -m {registry}", hint])
    assert doctor(FAILS=registry) == (False, [f"python -m {registry}", hint])
    both = [f"python -m {registry}", f"python -m {place}"]
    assert doctor(ENV="staging") == (True, both)
    for failing in (registry, place, "flight_delays"):
        assert doctor(ENV="staging", FAILS=failing) == (False, both)
    assert doctor(ENV="elsewhere") == (False, [])


def test_doctor_of_a_cloud_alone_asks_which(render: Render, tmp_path: Path) -> None:
    for cloud in CLOUDS:
        done = made(render(cloud=cloud), "doctor", tmp_path)
        assert "Say which: ENV=staging or ENV=production" in done.stderr
        done = made(render(cloud=cloud), "doctor", tmp_path, ENV="staging")
        assert done.stdout == "python -m flight_delays.operate doctor --env staging\n"


def test_image_is_built_and_asked_in_ci(recorded: Recorded) -> None:
    done = recorded.job("image.yml", "image")
    assert done.passed, done.printed
    assert recorded.lines() == [
        "make install run promote bundle", "make image", "make image-smoke",
    ]  # fmt: skip


def test_make_targets_of_the_workflows_exist(recorded: Recorded) -> None:
    for workflow in (recorded.workspace / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(workflow.read_text())["jobs"].values():
            for step in job["steps"]:
                words = re.split(r"[\n>]", step.get("run", ""))[0].split()
                if words[:1] == ["make"]:
                    targets = [word for word in words[1:] if "=" not in word and '"' not in word]
                    done = subprocess.run(
                        ["make", "--dry-run", *targets, "ENV=staging", "VERSION=3"],
                        cwd=recorded.workspace, capture_output=True, text=True, check=False,
                    )  # fmt: skip
                    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["deployment", "runbook"])
def test_make_targets_of_the_documents_exist(name: str, recorded: Recorded) -> None:
    text = (recorded.workspace / "docs" / f"{name}.md").read_text()
    targets = set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", text))
    assert {"rollback", "apply"} & targets
    done = subprocess.run(
        ["make", "--dry-run", *sorted(targets), "ENV=staging"],
        cwd=recorded.workspace, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_jobs_wait_for_one_another_and_for_their_environment(recorded: Recorded) -> None:
    workflow = yaml.safe_load((recorded.workspace / ".github/workflows/cd.yml").read_text())
    jobs = workflow["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "model": None, "build": "model", "staging": ["model", "build"],
        "production": ["model", "staging"],
    }  # fmt: skip
    assert jobs["production"]["environment"] == "production"
    assert not workflow["concurrency"]["cancel-in-progress"]
    building = [n for n, j in jobs.items() if "release-build" in json.dumps(j["steps"])]
    assert building == ["build"]


def test_nobody_keeps_a_secret_of_a_cloud(recorded: Recorded) -> None:
    folder = recorded.workspace / ".github"
    text = "".join(path.read_text() for path in folder.rglob("*.yml"))
    for word in ("credentials_json", "aws-access-key-id", "AWS_SECRET", "GOOGLE_CREDENTIALS"):
        assert word not in text


def test_plan_is_posted_on_the_pull_request(recorded: Recorded) -> None:
    event = {"repository": "acme/app", "event": {"pull_request": {"number": "7"}}, "token": "t"}
    given = {**VARS, "PLANNED_ENVIRONMENT": "production"}
    done = recorded.job("plan.yml", "plan", github=event, vars=given)
    assert done.passed, done.printed
    assert recorded.lines()[1] == "make --silent plan ENV=production ARGS=--plain"
    assert recorded.lines()[-1].startswith("gh pr comment 7 --repo acme/app --edit-last")
    comment = (recorded.workspace / "comment.md").read_text()
    assert comment.startswith("### Terraform plan of production\n")


def test_plan_without_a_bootstrapped_project_says_what_to_do(recorded: Recorded) -> None:
    event = {"repository": "acme/app", "event": {"pull_request": {"number": "7"}}, "token": "t"}
    done = recorded.job("plan.yml", "plan", github=event)
    assert not done.passed
    assert "make github ENV=staging" in done.printed
    assert recorded.lines() == []
