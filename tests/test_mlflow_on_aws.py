"""The Terraform that hosts the tracking server on AWS: applied to moto, changed and destroyed."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aws_terraform import (
    NO_TERRAFORM,
    Terraform,
    ask_moto,
    aws_cli,
    command,
    initialise,
    listed,
    moto,
    statements,
)
from conftest import Render

IMAGE = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/app-mlflow@sha256:{'a' * 64}"
DOMAIN = "mlflow.example.com"
GIVEN = {
    "name": "app",
    "domain": DOMAIN,
    "certificate_arn": "arn:aws:acm:eu-west-1:123456789012:certificate/1",
    "callers": '["192.0.2.0/24"]',
}
SECRETS = ("PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY")
# What the last apply changes, in one go: the provider waits a minute at each change of a database.
LAST = [
    "-auto-approve",
    "-input=false",
    "-var=password_version=2",
    "-var=deletion_protection=false",
]
WITHOUT_RESOURCE = {"ecr:GetAuthorizationToken"}

pytestmark = [pytest.mark.executed, pytest.mark.xdist_group("mlflow-on-aws"), NO_TERRAFORM]


@pytest.fixture(scope="module")
def folder(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = render(cloud="ecs", tracking="server")
    target = tmp_path_factory.mktemp("aws") / "mlflow"
    shutil.copytree(project / "deploy" / "mlflow", target)
    initialise(target / "terraform")
    return target / "terraform"


@pytest.fixture(scope="module")
def described(folder: Path) -> dict[str, Any]:
    """The server as compose.yaml describes it."""
    read = yaml.safe_load((folder.parent / "compose.yaml").read_text())
    server: dict[str, Any] = read["services"]["server"]
    return server


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with moto() as found:
        yield found


@pytest.fixture(scope="module")
def aws(address: str) -> Callable[..., Any]:
    """A function that runs aws against moto."""
    return aws_cli(address)


@pytest.fixture(scope="module")
def ground(folder: Path, address: str, aws: Callable[..., Any]) -> tuple[Terraform, list[str]]:
    """Terraform in what the server stands on, applied before there is an image; what was made."""
    ask_moto(folder)
    made = aws("acm", "request-certificate", f"--domain-name={DOMAIN}")["CertificateArn"]
    terraform = command(folder, {**GIVEN, "certificate_arn": made}, AWS_ENDPOINT_URL=address)
    terraform("validate")
    terraform("apply", "-auto-approve", "-input=false")
    return terraform, terraform("state", "list").stdout.split()


@pytest.fixture(scope="module")
def stack(ground: tuple[Terraform, list[str]], folder: Path) -> Terraform:
    """Terraform in a stack whose server runs; the image is named as people are told to."""
    terraform, _ = ground
    (folder / "terraform.tfvars").write_text(f'image = "{IMAGE}"\n')
    terraform("apply", "-auto-approve", "-input=false")
    return terraform


def resources(stack: Terraform) -> dict[str, dict[str, Any]]:
    found = json.loads(stack("show", "-json").stdout)["values"]["root_module"]["resources"]
    return {each["address"]: each["values"] for each in found}


def secret(aws: Callable[..., Any], name: str) -> str:
    found = aws("secretsmanager", "get-secret-value", f"--secret-id=app-mlflow/{name}")
    return str(found["SecretString"])


def test_format_is_terraforms(folder: Path) -> None:
    done = command(folder, GIVEN)("fmt", "-check", "-diff", "-recursive", check=False)
    assert done.returncode == 0, done.stdout


def test_all_but_the_server_is_made_before_there_is_an_image(
    ground: tuple[Terraform, list[str]], stack: Terraform
) -> None:
    _, made = ground
    assert set(stack("state", "list").stdout.split()) - set(made) == {
        "aws_ecs_service.server[0]",
        "aws_ecs_task_definition.server[0]",
    }
    repository = json.loads(stack("output", "-json", "image_repository").stdout)
    assert IMAGE.startswith(f"{repository}@")


def test_image_is_named_by_its_digest(stack: Terraform) -> None:
    moving = f"-var=image={IMAGE.partition('@')[0]}:latest"
    assert "by its digest" in stack("plan", "-input=false", moving, check=False).stderr


def test_nothing_is_let_go_by_mistake(stack: Terraform) -> None:
    found = resources(stack)
    database, service = found["aws_db_instance.this"], found["aws_ecs_service.server[0]"]
    assert database["deletion_protection"]
    assert found["aws_lb.this"]["enable_deletion_protection"]
    assert not database["skip_final_snapshot"]
    assert not database["delete_automated_backups"]
    assert database["backup_retention_period"] == 14
    assert not database["multi_az"]  # a second machine is paid for when it is asked for
    assert service["deployment_minimum_healthy_percent"] == 100
    assert service["deployment_circuit_breaker"][0]["rollback"]


def test_server_runs_what_compose_describes_with_another_bucket(
    stack: Terraform, described: dict[str, Any]
) -> None:
    definition = resources(stack)["aws_ecs_task_definition.server[0]"]
    (container,) = json.loads(definition["container_definitions"])
    changed = {"s3://mlflow": "s3://app-mlflow-artifacts-123456789012"}
    assert container["command"] == [changed.get(word, word) for word in described["command"]]
    plain = {each["name"]: each["value"] for each in container["environment"]}
    # Keys and an address of the bucket are for Compose's own; here the task's role is asked.
    asked = {name for name in described["environment"] if not name.startswith("AWS_")}
    more = {"AWS_DEFAULT_REGION", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "PGSSLMODE"}
    more.add("UVICORN_TIMEOUT_KEEP_ALIVE")
    secrets = {each["name"] for each in container["secrets"]}
    assert plain.keys() | secrets == asked | more
    assert secrets == set(SECRETS)
    for name in ("MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "PGUSER"):
        assert plain[name] == described["environment"][name]
    assert plain["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert plain["MLFLOW_SERVER_ALLOWED_HOSTS"] == DOMAIN
    assert plain["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == f"https://{DOMAIN}"


def test_no_password_is_in_the_state(
    stack: Terraform, aws: Callable[..., Any], folder: Path
) -> None:
    del stack  # which has been applied
    state = (folder / "terraform.tfstate").read_text()
    made = [secret(aws, name) for name in SECRETS]
    assert [len(each) for each in made] == [40] * 3
    assert len(set(made)) == 3
    assert [each for each in made if each in state] == []


def test_admin_finds_his_password_where_it_is_told(
    stack: Terraform, aws: Callable[..., Any]
) -> None:
    told = stack("output", "-raw", "admin_password").stdout.split()
    assert told[0] == "aws"
    assert aws(*told[1:]) == secret(aws, "MLFLOW_AUTH_ADMIN_PASSWORD")


def test_rights_are_on_resources(stack: Terraform) -> None:
    found = statements(json.loads(stack("show", "-json").stdout))
    assert {address for address, _ in found} == {
        "aws_iam_role_policy.execution",
        "aws_iam_role_policy.server",
    }
    for address, statement in found:
        actions = listed(statement["Action"])
        assert not any("*" in action for action in actions), address
        if "*" in listed(statement["Resource"]):
            assert set(actions) <= WITHOUT_RESOURCE, address
    (bucket,) = (each for _, each in found if each["Sid"] == "Lists")
    assert bucket["Resource"] == "arn:aws:s3:::app-mlflow-artifacts-123456789012"


def test_only_the_next_in_line_is_let_in(stack: Terraform) -> None:
    found = resources(stack)
    groups = {name: found[f"aws_security_group.{name}"]["id"] for name in ("balancer", "server")}
    let_in = {
        address.split(".")[1].split("[")[0]: (
            values["cidr_ipv4"] or values["referenced_security_group_id"],
            values["from_port"],
            values["to_port"],
        )
        for address, values in found.items()
        if address.startswith("aws_vpc_security_group_ingress_rule.")
    }
    assert let_in == {
        "callers": ("192.0.2.0/24", 443, 443),
        "server_from_balancer": (groups["balancer"], 5000, 5000),
        "database_from_server": (groups["server"], 5432, 5432),
    }
    listeners = [each for each in found if each.startswith("aws_lb_listener.")]
    assert listeners == ["aws_lb_listener.https"]
    database = found["aws_db_instance.this"]
    assert not database["publicly_accessible"]
    assert database["storage_encrypted"]
    assert found["aws_route_table.private"]["route"] == []


def test_bucket_is_closed_and_keeps_what_was_replaced(
    stack: Terraform, aws: Callable[..., Any]
) -> None:
    del stack
    bucket = "--bucket=app-mlflow-artifacts-123456789012"
    assert aws("s3api", "get-bucket-versioning", bucket)["Status"] == "Enabled"
    closed = aws("s3api", "get-public-access-block", bucket)["PublicAccessBlockConfiguration"]
    assert list(closed.values()) == [True] * 4
    policy = json.loads(aws("s3api", "get-bucket-policy", bucket)["Policy"])
    (statement,) = listed(policy["Statement"])
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_database_refuses_to_go_whoever_asks(stack: Terraform, aws: Callable[..., Any]) -> None:
    del stack  # which made it
    with pytest.raises(subprocess.CalledProcessError) as refused:
        aws("rds", "delete-db-instance", "--db-instance-identifier=app-mlflow")
    assert "Cannot delete protected DB Instance" in refused.value.stderr


def test_raising_their_version_makes_new_passwords_and_restarts_the_server(
    stack: Terraform, aws: Callable[..., Any]
) -> None:
    before = {name: secret(aws, name) for name in SECRETS}
    definition = resources(stack)["aws_ecs_task_definition.server[0]"]["arn"]
    stack("apply", *LAST)
    changed = {name for name in SECRETS if secret(aws, name) != before[name]}
    assert changed == {"PGPASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"}
    after = resources(stack)
    assert after["aws_ecs_task_definition.server[0]"]["arn"] != definition
    assert after["aws_db_instance.this"]["password_wo_version"] == 2


def test_all_is_destroyed_once_it_is_not_protected(stack: Terraform) -> None:
    """Which the apply of the test above has seen to."""
    stack("destroy", *LAST)
    assert stack("state", "list").stdout == ""
