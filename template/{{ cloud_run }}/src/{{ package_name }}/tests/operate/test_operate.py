"""Bootstrapping looks first and changes nothing unasked; the doctor names each fix."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ...errors import ConfigError
from ...operate import __main__ as operate
from ...operate import github, place
from ...release.interface import CloudError
from .conftest import GITHUB, Commands, run

READS = ("describe", "list", "view", "print-access-token", "get-iam-policy", "init", "output")
INIT = (
    "terraform init -reconfigure -input=false -backend-config=bucket=project-terraform-state "
    "-backend-config=prefix=example-production"
)


class Clouds(Commands):
    """Plays gcloud as well."""

    def __init__(self) -> None:
        super().__init__()
        self.applied = {
            "GCP_PROJECT": "project", "GCP_REGION": "europe-west1", "RELEASE_BUCKET": "bucket",
        }  # fmt: skip

    def reads(self, words: Sequence[str]) -> bool:
        return any(word in READS for word in words)

    def answer(self, line: str) -> str:
        answers: dict[str, Any] = {
            **GITHUB,
            "terraform": {
                "variables": {"value": self.applied},
                "plan_variables": {"value": {"GCP_SERVICE_ACCOUNT": "plan@project"}},
            },
        }
        for start, answer in answers.items():
            if start in line:
                return json.dumps(answer)
        return self.printed(line)

    def printed(self, line: str) -> str:
        printed = {
            "services list --enabled": " ".join(place.APIS),
            "attributeCondition": "assertion.repository_id == '123456' && more",
            "get-iam-policy": "principalSet://…/attribute.environment/production",
            "print-access-token": "token",
            "buckets describe": "there",
        }
        for part, text in printed.items():
            if part in line:
                return text
        return json.dumps(next((v for part, v in self.left.items() if part in line), []))


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clouds:
    fake = Clouds()
    fake.variables = dict(fake.applied)
    fake.play(monkeypatch, tmp_path)
    monkeypatch.setenv("GCP_PROJECT", "project")
    return fake


def test_bootstrap_only_says_what_is_missing(
    clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    clouds.missing = {"terraform-state", "environments/production"}
    assert run("bootstrap") == 0
    assert clouds.made == []
    said = capsys.readouterr().out
    assert "missing state bucket project-terraform-state" in said
    assert "gcloud storage buckets create gs://project-terraform-state" in said
    assert "Nothing was made" in said


def test_bootstrap_makes_what_is_missing_and_nothing_twice(clouds: Clouds) -> None:
    clouds.missing = {"terraform-state", "environments/production"}
    assert run("bootstrap", "--yes") == 0
    made = "\n".join(clouds.made)
    assert "buckets create" in made
    assert "--versioning" in made
    assert '"reviewers": [{"type": "User", "id": 7}]' in made
    assert "deployment-branch-policies --field=name=main" in made
    clouds.made.clear()
    run("bootstrap", "--yes")
    assert clouds.made == []


def test_other_environments_are_made_where_github_takes_no_reviewer(clouds: Clouds) -> None:
    clouds.missing = {f"environments/{name}" for name in github.ENVIRONMENTS}
    clouds.refusing = {
        "--method=PUT repos/acme/example/environments/production": "gh: Please ensure the billing "
        "plan supports the required reviewers protection rule. (HTTP 422)"
    }
    with pytest.raises(CloudError, match="a private repository needs GitHub Enterprise"):
        run("bootstrap", "--yes")
    assert clouds.missing == {"environments/production"}
    clouds.refusing = {"environments/production": "gh: Not Found (HTTP 404)"}
    with pytest.raises(CloudError, match="Not Found"):
        run("bootstrap", "--yes")


def test_doctor_finds_nothing_in_a_whole_environment(
    clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    clouds.left = {"run services list": [{"name": "example-production"}]}
    assert run("doctor") == 0
    assert "nothing to fix" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("missing", "fix"),
    [
        ("print-access-token", "gcloud auth login"),
        ("buckets describe", "gcloud storage buckets create"),
        ("environments/production", "make bootstrap ENV=production"),
        ("environments/evaluation", "make bootstrap ENV=production"),
        ("workload-identity-pools", "make apply ENV=production"),
        ("get-iam-policy", "make apply ENV=production"),
        ("gh variable list", "make github ENV=production"),
        ("services list --enabled", "gcloud services enable"),
    ],
)
def test_doctor_prints_the_fix(
    missing: str, fix: str, clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    clouds.left = {"run services list": [{"name": "example-production"}]}
    clouds.missing = {missing}
    assert run("doctor") == 1
    said = capsys.readouterr().out
    assert fix in said
    assert "1 to fix" in said


def test_trust_in_another_repository_is_found(
    clouds: Clouds, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = clouds.printed
    monkeypatch.setattr(clouds, "printed", lambda line: honest(line).replace("123456", "1"))
    assert run("doctor") == 1
    assert "missing trust in this repository's number" in capsys.readouterr().out


def test_apply_uses_the_environments_own_state(clouds: Clouds) -> None:
    given = "-var=environment=production -var=github_repository_id=123456"
    assert run("apply") == 0
    assert clouds.made == [
        INIT,
        "terraform apply -var=project=project -var=region=europe-west1 " + given,
    ]


def test_what_is_given_wins_over_the_settings_file(clouds: Clouds, tmp_path: Path) -> None:
    (tmp_path / "production.tfvars").write_text("max_instances = 2\n")
    assert run("apply") == 0
    file, first = "-var-file=production.tfvars", "-var=project=project"
    assert clouds.made[-1].startswith(f"terraform apply {file} {first}")


@pytest.mark.parametrize(("name", "instead"), place.INSTEAD.items())
def test_settings_that_others_must_know_are_refused(
    name: str, instead: str, clouds: Clouds, tmp_path: Path
) -> None:
    (tmp_path / "staging.tfvars").write_text(f'public = true\n{name} = "x"\n')
    for command in ("bootstrap", "doctor", "apply", "destroy"):
        with pytest.raises(ConfigError, match=rf"staging.tfvars sets {name}\b.*{instead}"):
            run(command, "--yes")
    assert clouds.made == []


@pytest.mark.parametrize(
    ("name", "applied"), [("GCP_REGION", "europe-west4"), ("GCP_PROJECT", "other")]
)
@pytest.mark.parametrize("command", ["plan", "apply", "destroy"])
def test_nothing_is_applied_elsewhere_than_it_is(
    command: str, name: str, applied: str, clouds: Clouds
) -> None:
    clouds.applied[name] = applied
    with pytest.raises(ConfigError, match=f"export {name}={applied}"):
        run(command, "--yes")
    assert clouds.made == [INIT]
    clouds.applied, clouds.variables[name] = {}, applied  # a state elsewhere knows nothing
    with pytest.raises(ConfigError, match=f"export {name}={applied}"):
        run(command, "--yes")
    assert clouds.made == [INIT]


def test_variable_that_is_another_since_an_apply_is_found(
    clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("apply") == 0
    assert "make github" not in capsys.readouterr().out
    clouds.variables["RELEASE_BUCKET"] = "of before"
    assert run("doctor") == 1
    assert "make github ENV=production" in capsys.readouterr().out
    assert run("apply") == 0
    assert "make github ENV=production" in capsys.readouterr().out


def test_outputs_become_variables_of_github(clouds: Clouds) -> None:
    clouds.variables = {}
    assert run("github") == 0
    assert clouds.made == [
        INIT,
        "gh variable set GCP_PROJECT --env=production --repo=acme/example --body=project",
        "gh variable set GCP_REGION --env=production --repo=acme/example --body=europe-west1",
        "gh variable set RELEASE_BUCKET --env=production --repo=acme/example --body=bucket",
        "gh variable set GCP_SERVICE_ACCOUNT --env=plan --repo=acme/example --body=plan@project",
    ]


def test_staging_is_not_destroyed_under_production(
    clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    clouds.left = {"run services list": [{"metadata": {"name": "example-production"}}]}
    with pytest.raises(CloudError, match="production first: service example-production"):
        operate.main(["destroy", "--env", "staging", "--yes"])
    assert clouds.made == []
    clouds.left = {}
    assert operate.main(["destroy", "--env", "staging", "--yes"]) == 0
    assert capsys.readouterr().out == "nothing is left\n"


def test_destroy_needs_a_yes(clouds: Clouds, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("destroy") == 0
    assert [line for line in clouds.made if "terraform destroy" in line] == []
    assert "Nothing was destroyed" in capsys.readouterr().out


def test_what_survives_is_listed_and_an_error(
    clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    clouds.failing = {"destroy"}
    clouds.left = {
        "storage buckets list": [
            {"name": "project-example-production-predictions"},
            {"name": "project-example-staging-predictions"},
        ]
    }
    assert run("destroy", "--yes") == 1
    assert capsys.readouterr().out == "left    bucket project-example-production-predictions\n"
    clouds.failing = set()
    assert run("destroy", "--yes") == 1
    clouds.left = {}
    assert run("destroy", "--yes") == 0


@pytest.mark.parametrize("failing", ["init", "destroy"])
def test_destroy_that_terraform_did_not_end_is_an_error(
    failing: str, clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not looked for, such as an alarm, is in Terraform's state still."""
    clouds.failing = {failing}
    assert run("destroy", "--yes") == 1
    said = capsys.readouterr()
    assert said.out == "nothing else is found\n"
    assert f"terraform {failing} failed with 1; `terraform" in said.err
    assert "state list` names what it still knows" in said.err
