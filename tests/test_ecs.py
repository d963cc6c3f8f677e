"""ECS's Terraform: its own policies, then the whole stack applied to moto and destroyed."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
from registries import free_port

OVERLAY = Path(__file__).parents[1] / "template" / "{{ ecs }}"
MIRROR = "registry.terraform.io/hashicorp/aws"
SERVER = Path(__file__).with_name("aws_server.py")
GIVEN = {
    "environment": "staging",
    "github_repository": "acme/app",
    "github_owner_id": "11",
    "github_repository_id": "22",
    "state_bucket": "state",
    "alert_email": "team@example.org",
    "secrets": '["API_KEYS"]',
}
AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",  # what the first version of aws reads
}
# Actions that are allowed on all resources, because they know none to be limited to.
WITHOUT_RESOURCE = {
    "cloudwatch:GetMetricStatistics",
    "ecr:GetAuthorizationToken",
    "ecs:DescribeTaskDefinition",
    "ecs:RegisterTaskDefinition",
    "elasticloadbalancing:DescribeListeners",
}
Terraform = Callable[..., "subprocess.CompletedProcess[str]"]


def find_mirror() -> Path | None:
    """Return a folder that holds the real provider, which no test downloads.

    TF_PLUGIN_MIRROR names it; otherwise the places where systems put such folders are searched.
    """
    named = os.environ.get("TF_PLUGIN_MIRROR")
    places = (
        [Path(named)] if named else [*Path("/").glob("opt/*"), *Path("/").glob("usr/share/*/*")]
    )
    return next((place for place in places if (place / MIRROR).is_dir()), None)


pytestmark = [
    pytest.mark.executed,
    pytest.mark.xdist_group("ecs"),
    pytest.mark.skipif(
        shutil.which("terraform") is None or find_mirror() is None,
        reason="NO TERRAFORM, OR NO AWS PROVIDER IN TF_PLUGIN_MIRROR: ECS was not applied",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module, rendered for a package called app, with its state beside it."""
    target = tmp_path_factory.mktemp("ecs") / "terraform"
    shutil.copytree(OVERLAY / "deploy" / "terraform", target)
    variables = target / "variables.tf.jinja"
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)  # noqa: S701
    environment.filters["regex_replace"] = lambda text, *_: text
    text = environment.from_string(variables.read_text()).render(package_name="app")
    (target / "variables.tf").write_text(text + "\n")
    variables.unlink()
    (target / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    (target / "terraform.rc").write_text(
        f'provider_installation {{\n  filesystem_mirror {{ path = "{find_mirror()}" }}\n}}\n'
    )
    command(target)("init", "-input=false")
    return target


def command(folder: Path, **more: str) -> Terraform:
    variables = {
        **os.environ, **AWS, **more,
        **{f"TF_VAR_{name}": value for name, value in GIVEN.items()},
        "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
        "TF_IN_AUTOMATION": "1",
    }  # fmt: skip

    def run(*words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            ["terraform", *words, *([] if words[0] == "fmt" else ["-no-color"])],
            cwd=folder, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of moto, with what it lacks."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, SERVER, str(port)],
        env={**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()  # noqa: S310
                break
            except OSError:
                assert time.monotonic() < deadline, "moto did not start"
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def stack(folder: Path, address: str) -> Terraform:
    """Terraform in a stack that is applied, by the provider's own endpoint seam."""
    (folder / "moto_override.tf").write_text(
        'provider "aws" {\n'
        "  skip_credentials_validation = true\n"
        "  skip_region_validation      = true\n"
        "  s3_use_path_style           = true\n"
        "  max_retries                 = 1\n"
        "}\n"
    )
    terraform = command(folder, AWS_ENDPOINT_URL=address)
    terraform("apply", "-auto-approve", "-input=false")
    return terraform


@pytest.fixture(scope="module")
def aws(address: str) -> Callable[..., Any]:
    """A function that runs aws against moto."""

    def run(*words: str) -> Any:
        done = subprocess.run(
            [Path(sys.executable).with_name("aws"), *words, "--output=json"],
            env={**os.environ, **AWS, "AWS_ENDPOINT_URL": address},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout or "null")

    return run


def test_format_is_terraforms(folder: Path) -> None:
    done = command(folder)("fmt", "-check", "-diff", "-recursive", check=False)
    assert done.returncode == 0, done.stdout


def test_policies_hold(folder: Path) -> None:
    terraform = command(folder)
    terraform("validate")
    assert "0 failed" in terraform("test").stdout


def statements(state: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the statements of all policies of roles, with the address of each."""
    found = []
    for resource in state["values"]["root_module"]["resources"]:
        if resource["type"] == "aws_iam_role_policy":
            policy = json.loads(resource["values"]["policy"])
            found += [(resource["address"], each) for each in listed(policy["Statement"])]
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_rights_are_on_resources(stack: Terraform) -> None:
    state = json.loads(stack("show", "-json").stdout)
    found = statements(state)
    assert len({address for address, _ in found}) == 7
    for address, statement in found:
        actions = listed(statement["Action"])
        assert not any("*" in action for action in actions), address
        if "*" in listed(statement["Resource"]):
            assert set(actions) <= WITHOUT_RESOURCE, address
        if "iam:PassRole" in actions:
            assert statement["Condition"]["StringEquals"] == {
                "iam:PassedToService": "ecs-tasks.amazonaws.com"
            }


def test_only_the_repositorys_environments_are_trusted(stack: Terraform) -> None:
    state = json.loads(stack("show", "-json").stdout)
    trusts = {
        r["index"]: json.loads(r["values"]["assume_role_policy"])["Statement"][0]
        for r in state["values"]["root_module"]["resources"]
        if r["type"] == "aws_iam_role" and r["name"] == "github"
    }
    issuer = "token.actions.githubusercontent.com"
    for role, environment in {"deploy": "staging", "plan": "plan"}.items():
        assert trusts[role]["Action"] == "sts:AssumeRoleWithWebIdentity"
        assert trusts[role]["Condition"] == {
            "StringEquals": {
                f"{issuer}:aud": "sts.amazonaws.com",
                f"{issuer}:sub": f"repo:acme@11/app@22:environment:{environment}",
            }
        }


def test_apply_does_not_put_back_what_a_release_deployed(
    stack: Terraform, aws: Callable[..., Any]
) -> None:
    variables = json.loads(stack("output", "-json", "variables").stdout)
    cluster, listener = variables["ECS_CLUSTER"], variables["ECS_LISTENER"]
    placeholder = aws("ecs", "describe-task-definition", f"--task-definition={cluster}-placeholder")
    image = {**placeholder["taskDefinition"]["containerDefinitions"][0], "image": "app@sha256:1"}
    made = aws(
        "ecs", "register-task-definition", f"--family={cluster}", "--network-mode=awsvpc",
        "--requires-compatibilities=FARGATE", "--cpu=512", "--memory=1024",
        f"--execution-role-arn={placeholder['taskDefinition']['executionRoleArn']}",
        f"--container-definitions={json.dumps([image])}",
    )  # fmt: skip
    revision = made["taskDefinition"]["taskDefinitionArn"]
    where = [f"--cluster={cluster}", "--service=live"]
    aws("ecs", "update-service", *where, f"--task-definition={revision}", "--desired-count=3")
    groups = aws("elbv2", "describe-listeners", f"--listener-arns={listener}")
    action = groups["Listeners"][0]["DefaultActions"][0]
    for group in action["ForwardConfig"]["TargetGroups"]:
        group["Weight"] = 50
    aws("elbv2", "modify-listener", f"--listener-arn={listener}",
        f"--default-actions={json.dumps([action])}")  # fmt: skip
    stack("apply", "-auto-approve", "-input=false")
    service = aws("ecs", "describe-services", where[0], "--services", "live")["services"][0]
    assert (service["taskDefinition"], service["desiredCount"]) == (revision, 3)
    after = aws("elbv2", "describe-listeners", f"--listener-arns={listener}")
    found = after["Listeners"][0]["DefaultActions"][0]["ForwardConfig"]["TargetGroups"]
    assert [group["Weight"] for group in found] == [50, 50]


def test_destroy_leaves_nothing(stack: Terraform) -> None:
    stack("destroy", "-auto-approve", "-input=false")
    assert stack("state", "list").stdout == ""
