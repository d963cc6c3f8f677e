"""ECS's Terraform: its own policies, then the whole stack applied to moto and destroyed."""

import json
import shutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jinja2
import pytest
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
from moto.iam.aws_managed_policies import aws_managed_policies_data

OVERLAY = Path(__file__).parents[1] / "template" / "{{ ecs }}"
GIVEN = {
    "environment": "staging",
    "github_repository": "acme/app",
    "github_owner_id": "11",
    "github_repository_id": "22",
    "state_bucket": "state",
    "alert_email": "team@example.org",
    "secrets": '["API_KEYS", "MLFLOW_TRACKING_PASSWORD"]',
}
MONITORED = {
    "monitoring_image": "registry/app@sha256:abc",
    "monitoring_secrets": '["LOGIN"]',
    "retired_secrets": '["MLFLOW_OLD"]',
    "monitoring_settings": '{"MONITOR_REQUESTS": "true"}',
}
# Actions that are allowed on all resources, because they know none to be limited to.
WITHOUT_RESOURCE = {
    "cloudwatch:GetMetricStatistics",
    "ecr:GetAuthorizationToken",
    "ecs:DescribeTaskDefinition",
    "ecs:RegisterTaskDefinition",
    "elasticloadbalancing:DescribeListeners",
}

pytestmark = [pytest.mark.executed, pytest.mark.xdist_group("ecs"), NO_TERRAFORM]


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
    initialise(target)
    return target


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of moto, with what it lacks."""
    with moto() as found:
        yield found


@pytest.fixture(scope="module")
def stack(folder: Path, address: str) -> Terraform:
    """Terraform in a stack that is applied, by the provider's own endpoint seam."""
    ask_moto(folder)
    terraform = command(folder, {**GIVEN, **MONITORED}, AWS_ENDPOINT_URL=address)
    terraform("apply", "-auto-approve", "-input=false")
    return terraform


@pytest.fixture(scope="module")
def aws(address: str) -> Callable[..., Any]:
    """A function that runs aws against moto."""
    return aws_cli(address)


def test_format_is_terraforms(folder: Path) -> None:
    done = command(folder, GIVEN)("fmt", "-check", "-diff", "-recursive", check=False)
    assert done.returncode == 0, done.stdout


def test_policies_hold(folder: Path) -> None:
    terraform = command(folder, GIVEN)
    terraform("validate")
    assert "0 failed" in terraform("test").stdout


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


# What the provider asks when it looks whether the resources have changed.
READS = [
    "application-autoscaling:DescribeScalableTargets",
    "application-autoscaling:DescribeScalingPolicies",
    "application-autoscaling:ListTagsForResource",
    "budgets:ListTagsForResource",
    "budgets:ViewBudget",
    "cloudwatch:DescribeAlarms",
    "ec2:DescribeSecurityGroupRules",
    "ec2:DescribeVpcEndpoints",
    "ecr:GetLifecyclePolicy",
    "ecr:GetRepositoryPolicy",
    "ecs:DescribeTaskDefinition",
    "elasticloadbalancing:DescribeTargetGroupAttributes",
    "events:DescribeRule",
    "events:ListTargetsByRule",
    "firehose:DescribeDeliveryStream",
    "iam:GetRolePolicy",
    "logs:DescribeSubscriptionFilters",
    "logs:ListTagsForResource",
    "s3:GetBucketPolicy",
    "s3:GetLifecycleConfiguration",
    "s3:GetObject",
    "scheduler:GetSchedule",
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetResourcePolicy",
    "sns:GetSubscriptionAttributes",
    "sns:GetTopicAttributes",
]


def test_who_plans_may_read_what_every_plan_reads(stack: Terraform) -> None:
    """Neither of AWS's own policies reads schedules, budgets or the tags of autoscaling."""
    own = [
        action
        for address, statement in statements(json.loads(stack("show", "-json").stdout))
        if address == "aws_iam_role_policy.plan"
        for action in listed(statement["Action"])
    ]
    managed = json.loads(aws_managed_policies_data)
    allowed = own + [
        action
        for name in ("SecurityAudit", "ViewOnlyAccess")
        for statement in listed(managed[name]["Document"]["Statement"])
        for action in listed(statement["Action"])
    ]
    refused = [read for read in READS if not any(fnmatchcase(read, each) for each in allowed)]
    assert refused == []


@pytest.mark.parametrize(
    "read",
    [
        "logs:FilterLogEvents", "logs:GetLogEvents", "logs:StartQuery", "s3:GetObject",
        "s3:GetObjectVersion", "secretsmanager:GetSecretValue",
    ],
)  # fmt: skip
@pytest.mark.parametrize("policy", ["SecurityAudit", "ViewOnlyAccess"])
def test_who_plans_reads_no_log_prediction_or_secret(policy: str, read: str) -> None:
    """What AWS's own policies allow; ours allows to read the state's file besides."""
    statements = listed(json.loads(aws_managed_policies_data)[policy]["Document"]["Statement"])
    allowed = [action for statement in statements for action in listed(statement["Action"])]
    assert not any(fnmatchcase(read, each) for each in allowed)


def test_only_monitoring_is_given_its_settings_and_secrets(stack: Terraform) -> None:
    resources = json.loads(stack("show", "-json").stdout)["values"]["root_module"]["resources"]
    containers = {
        each["name"]: container
        for each in resources
        if each["type"] == "aws_ecs_task_definition"
        for container in json.loads(each["values"]["container_definitions"])
    }

    def names(kind: str) -> dict[str, set[str]]:
        return {
            name: {one["name"] for one in container.get(kind, [])}
            for name, container in containers.items()
        }

    asking = [name for name, given in names("environment").items() if "MONITOR_REQUESTS" in given]
    assert asking == ["monitoring"]
    assert names("secrets") == {
        "placeholder": set(),
        "template": {"API_KEYS", "MLFLOW_TRACKING_PASSWORD"},
        "monitoring": {"LOGIN", "MLFLOW_TRACKING_PASSWORD"},
    }


def test_retired_secret_can_still_be_read_by_releases_that_name_it(stack: Terraform) -> None:
    resources = json.loads(stack("show", "-json").stdout)["values"]["root_module"]["resources"]
    named = {r["type"]: r for r in resources if r.get("index") == "MLFLOW_OLD"}
    (secret,) = named.values()
    assert secret["type"] == "aws_secretsmanager_secret"
    policy = next(
        r["values"]["policy"]
        for r in resources
        if (r["type"], r["name"]) == ("aws_iam_role_policy", "execution")
    )
    assert secret["values"]["arn"] in policy


def test_redirect_waits_for_the_listener_that_leaves_its_port(stack: Terraform) -> None:
    redirect, public = '"aws_lb_listener.redirect"', '"aws_lb_listener.public"'
    assert f"{redirect} -> {public}" in stack("graph").stdout


def test_alarms_of_monitoring_are_told(stack: Terraform, aws: Callable[..., Any]) -> None:
    del stack
    (rule,) = aws("events", "list-rules", "--name-prefix=app-staging-monitoring")["Rules"]
    told = json.loads(rule["EventPattern"])["detail"]
    assert told["group"] == ["family:app-staging-monitoring"]
    assert told["$or"] == [
        {"containers": {"exitCode": [{"anything-but": [0]}]}},
        {"stopCode": ["TaskFailedToStart"]},
    ]
    (target,) = aws("events", "list-targets-by-rule", f"--rule={rule['Name']}")["Targets"]
    (topic,) = aws("sns", "list-topics")["Topics"]
    assert target["Arn"] == topic["TopicArn"]
    known = aws("sns", "get-topic-attributes", f"--topic-arn={target['Arn']}")["Attributes"]
    let_in = {each["Principal"]["Service"] for each in json.loads(known["Policy"])["Statement"]}
    assert let_in == {"cloudwatch.amazonaws.com", "events.amazonaws.com"}


def test_what_expires_and_what_does_not(stack: Terraform, aws: Callable[..., Any]) -> None:
    del stack
    policy = aws("ecr", "get-lifecycle-policy", "--repository-name=app")["lifecyclePolicyText"]
    kept = {rule["selection"]["tagStatus"] for rule in json.loads(policy)["rules"]}
    assert kept == {"tagged", "any"}
    bucket = "--bucket=app-staging-predictions-123456789012"
    rules = aws("s3api", "get-bucket-lifecycle-configuration", bucket)["Rules"]
    expiring = {each["Filter"]["Prefix"] for each in rules if "Expiration" in each}
    assert expiring == {"predictions/", "errors/"}


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
