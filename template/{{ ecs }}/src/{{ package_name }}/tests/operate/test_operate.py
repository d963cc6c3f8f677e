"""Bootstrapping looks first and changes nothing unasked; the doctor names each fix, on AWS."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ...errors import ConfigError
from ...operate import __main__ as operate
from ...operate import github, place
from ...release.interface import CloudError
from .conftest import GITHUB, Commands, run

READS = ("describe", "get-", "head-", "init", "list", "view", "output")
STATE = "example-terraform-state-111"
INIT = (
    f"terraform init -reconfigure -input=false -backend-config=bucket={STATE} "
    "-backend-config=key=example-production/terraform.tfstate -backend-config=region=eu-west-1"
)


class Aws(Commands):
    """Plays aws as well."""

    subject = "repo:acme@7/example@123456:environment:production"

    def __init__(self) -> None:
        super().__init__()
        self.applied = {"ECS_CLUSTER": "example-production", "AWS_REGION": "eu-west-1"}

    def reads(self, words: Sequence[str]) -> bool:
        return words[2].startswith(READS)

    def answer(self, line: str) -> str:
        condition = {"StringEquals": {f"{place.ISSUER}:sub": [self.subject]}}
        answers: dict[str, object] = {
            **GITHUB,
            "--jq .owner.id": 7,
            "terraform": {
                "variables": {"value": self.applied},
                "plan_variables": {"value": {"PLANNED_ENVIRONMENT": "production"}},
            },
            "iam get-role": {"Role": {"AssumeRolePolicyDocument": {"Condition": condition}}},
            "describe-services": {"services": [{"status": "ACTIVE"}] * 2},
        }
        if "get-caller-identity" in line:
            return "111\n"
        for start, answer in answers.items():
            if start in line:
                return json.dumps(answer)
        return json.dumps(next((names for part, names in self.left.items() if part in line), []))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    fake = Aws()
    fake.variables = dict(fake.applied)
    fake.play(monkeypatch, tmp_path)
    return fake


def test_bootstrap_makes_only_what_is_missing_and_only_if_told(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.missing = {"head-bucket", "get-open-id-connect-provider"}
    assert run("bootstrap") == 0
    assert aws.made == []
    said = capsys.readouterr().out
    assert f"missing state bucket {STATE}" in said
    assert "missing the account knows GitHub" in said
    assert run("bootstrap", "--yes") == 0
    where = "--region=eu-west-1 --output=json"
    assert aws.made[0] == (
        f"aws s3api create-bucket {where} --bucket={STATE} "
        "--create-bucket-configuration=LocationConstraint=eu-west-1"
    )
    assert aws.made[1].endswith("--versioning-configuration=Status=Enabled")
    assert "RestrictPublicBuckets=true" in aws.made[2]
    assert aws.made[3] == (
        "aws iam create-open-id-connect-provider "
        "--url=https://token.actions.githubusercontent.com --client-id-list=sts.amazonaws.com"
    )
    assert len(aws.made) == 4


def test_one_region_is_not_named_when_a_bucket_is_made(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    aws.missing = {"head-bucket"}
    run("bootstrap", "--yes")
    assert "LocationConstraint" not in aws.made[0]


def test_other_environments_are_made_where_github_takes_no_reviewer(aws: Aws) -> None:
    aws.missing = {f"environments/{name}" for name in github.ENVIRONMENTS}
    aws.refusing = {
        "--method=PUT repos/acme/example/environments/production": "gh: Please ensure the billing "
        "plan supports the required reviewers protection rule. (HTTP 422)"
    }
    with pytest.raises(CloudError, match="a private repository needs GitHub Enterprise"):
        run("bootstrap", "--yes")
    assert aws.missing == {"environments/production"}
    aws.refusing = {"environments/production": "gh: Not Found (HTTP 404)"}
    with pytest.raises(CloudError, match="Not Found"):
        run("bootstrap", "--yes")


def test_doctor_finds_nothing_in_a_whole_environment(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("doctor") == 0
    assert "nothing to fix" in capsys.readouterr().out
    assert aws.made == []


@pytest.mark.parametrize(
    ("missing", "fix"),
    [
        ("head-bucket", "aws s3api create-bucket"),
        ("get-open-id-connect-provider", "aws iam create-open-id-connect-provider"),
        ("environments/production", "make bootstrap ENV=production"),
        ("environments/evaluation", "make bootstrap ENV=production"),
        ("get-role", "make apply ENV=production"),
        ("describe-services", "make apply ENV=production"),
        ("gh variable list", "make github ENV=production"),
    ],
)
def test_doctor_prints_the_fix(
    missing: str, fix: str, aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.missing = {missing}
    assert run("doctor") == 1
    said = capsys.readouterr().out
    assert fix in said
    assert "1 to fix" in said


@pytest.mark.parametrize(
    "subject",
    [
        "repo:acme@7/example@1:environment:production",
        "repo:acme/example:environment:production",
        "repo:acme@7/example@123456:environment:production-2",
    ],
)
def test_trust_in_something_else_is_found(
    subject: str, aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.subject = subject
    assert run("doctor") == 1
    assert "missing trust in this repository's number" in capsys.readouterr().out


def test_apply_uses_the_environments_own_state_and_the_numbers(aws: Aws) -> None:
    assert run("apply") == 0
    given = "-var=region=eu-west-1 -var=environment=production"
    here = "-var=github_repository=acme/example -var=github_owner_id=7"
    number = f"-var=github_repository_id=123456 -var=state_bucket={STATE}"
    assert aws.made == [
        INIT,
        f"terraform apply {given} {here} {number}",
    ]


def test_what_is_given_wins_over_the_settings_file(aws: Aws, tmp_path: Path) -> None:
    (tmp_path / "production.tfvars").write_text("max_tasks = 2\n")
    assert run("apply") == 0
    file, first = "-var-file=production.tfvars", "-var=region=eu-west-1"
    assert aws.made[-1].startswith(f"terraform apply {file} {first}")


@pytest.mark.parametrize(("name", "instead"), place.INSTEAD.items())
def test_settings_that_others_must_know_are_refused(
    name: str, instead: str, aws: Aws, tmp_path: Path
) -> None:
    (tmp_path / "staging.tfvars").write_text(f'cpu = 512\n{name} = "x"\n')
    for command in ("bootstrap", "doctor", "apply", "destroy"):
        with pytest.raises(ConfigError, match=rf"staging.tfvars sets {name}\b.*{instead}"):
            run(command, "--yes")
    assert aws.made == []


@pytest.mark.parametrize("command", ["plan", "apply", "destroy"])
def test_nothing_is_applied_elsewhere_than_it_is(command: str, aws: Aws) -> None:
    aws.applied["AWS_REGION"] = "eu-north-1"
    with pytest.raises(ConfigError, match="export AWS_REGION=eu-north-1"):
        run(command, "--yes")
    assert aws.made == [INIT]
    aws.applied, aws.variables["AWS_REGION"] = {}, "eu-north-1"  # a state elsewhere knows nothing
    with pytest.raises(ConfigError, match="export AWS_REGION=eu-north-1"):
        run(command, "--yes")
    assert aws.made == [INIT]


def test_variable_that_is_another_since_an_apply_is_found(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("apply") == 0
    assert "make github" not in capsys.readouterr().out
    aws.variables["ECS_CLUSTER"] = "of before"
    assert run("doctor") == 1
    assert "make github ENV=production" in capsys.readouterr().out
    assert run("apply") == 0
    assert "make github ENV=production" in capsys.readouterr().out


def test_outputs_become_variables_of_github(aws: Aws) -> None:
    aws.variables = {}
    assert run("github") == 0
    where = "--repo=acme/example"
    assert aws.made == [
        INIT,
        f"gh variable set ECS_CLUSTER --env=production {where} --body=example-production",
        f"gh variable set AWS_REGION --env=production {where} --body=eu-west-1",
        f"gh variable set PLANNED_ENVIRONMENT --env=plan {where} --body=production",
    ]


def test_staging_is_not_destroyed_under_production(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.left = {"list-clusters": ["example-production"]}
    with pytest.raises(CloudError, match="production first: cluster example-production"):
        operate.main(["destroy", "--env", "staging", "--yes"])
    assert aws.made == []
    aws.left = {}
    assert operate.main(["destroy", "--env", "staging", "--yes"]) == 0
    assert capsys.readouterr().out == "nothing is left\n"


def test_destroy_needs_a_yes_and_lists_what_survives(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("destroy") == 0
    assert [line for line in aws.made if "terraform destroy" in line] == []
    assert "Nothing was destroyed" in capsys.readouterr().out
    aws.failing = {"destroy"}
    aws.left = {
        "list-buckets": ["example-production-predictions-111", "example-staging-releases-111"],
        "describe-repositories": ["example"],  # staging's
    }
    assert run("destroy", "--yes") == 1
    assert capsys.readouterr().out == "left    bucket example-production-predictions-111\n"
    aws.failing = set()
    assert run("destroy", "--yes") == 1
    capsys.readouterr()
    aws.left = {}
    assert run("destroy", "--yes") == 0
    assert capsys.readouterr().out == "nothing is left\n"


@pytest.mark.parametrize("failing", ["init", "destroy"])
def test_destroy_that_terraform_did_not_end_is_an_error(
    failing: str, aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not looked for, such as an alarm, is in Terraform's state still."""
    aws.failing = {failing}
    assert run("destroy", "--yes") == 1
    said = capsys.readouterr()
    assert said.out == "nothing else is found\n"
    assert f"terraform {failing} failed with 1; `terraform" in said.err
    assert "state list` names what it still knows" in said.err
