"""Cloud Run's Terraform, against the google provider's real schema and the service's real API."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Render, once
from google_cloud import Google, answering, needed, variables
from google_terraform import (
    NO_TERRAFORM,
    Plans,
    Terraform,
    as_api,
    command,
    google_mirror,
    initialise,
    planner,
)

SERVICE = "google_cloud_run_v2_service.this"
GIVEN = {"project": "stub-project", "environment": "staging", "github_repository_id": "123456"}

OPTIONS = {
    "alert_email": "team@example.org",
    "billing_account": "000000-000000-000000",
    "monitoring_image": "registry/app@sha256:abc",
    "monitoring_secrets": '["LOGIN"]',
    "retired_secrets": '["MLFLOW_OLD"]',
    "monitoring_settings": '{"MONITOR_REQUESTS": "true"}',
    "secrets": '["API_KEYS", "MLFLOW_TRACKING_PASSWORD"]',
}
Made = dict[str, dict[str, Any]]

pytestmark = NO_TERRAFORM


@pytest.fixture(scope="session")
def module(render: Render) -> Path:
    return render(cloud="cloud-run") / "deploy" / "terraform"


def imported_from(module: Path) -> dict[str, str]:
    """Return what makes Python find the project, and write nothing into it: it is shared."""
    return {"PYTHONPATH": str(module.parents[1] / "src"), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def mirror(render: Render, shared: Path) -> Path:
    return google_mirror(render, shared)


@pytest.fixture(scope="session")
def initialised(module: Path, mirror: Path, shared: Path) -> Path:
    """A copy of the module that is initialised, to be copied."""

    def build(target: Path) -> None:
        shutil.copytree(module, target)
        initialise(target, mirror)

    return once(shared / "terraform", build)


@pytest.fixture
def terraform(initialised: Path, tmp_path: Path) -> Terraform:
    """A function that runs Terraform in a copy of the module, to be changed."""
    folder = Path(shutil.copytree(initialised, tmp_path / "terraform"))
    return command(folder, **GIVEN)


@pytest.fixture(scope="session")
def plans(initialised: Path, tmp_path_factory: pytest.TempPathFactory) -> Plans:
    """A function from variables to what is planned for each resource, by address."""
    folder = Path(shutil.copytree(initialised, tmp_path_factory.mktemp("plan") / "t"))
    return planner(command(folder, **GIVEN))


@pytest.fixture(scope="session")
def applied(initialised: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A function from variables to the outputs of an apply, and what it made."""

    def apply(**given: str) -> Any:
        folder = Path(shutil.copytree(initialised, tmp_path_factory.mktemp("made") / "t"))
        run = command(folder, **{**GIVEN, **given})
        run("apply", "-auto-approve", "-input=false")
        return json.loads(run("show", "-json").stdout)["values"]

    return apply


@pytest.fixture(scope="session")
def made(applied: Callable[..., Any]) -> Made:
    """What an apply makes where every option is taken, by address."""
    resources = applied(**OPTIONS)["root_module"]["resources"]
    return {each["address"]: each for each in resources}


def test_whole_module_applies_and_is_destroyed(terraform: Terraform) -> None:
    terraform("validate", "-no-color")
    applied = terraform("apply", "-auto-approve", "-input=false", "-no-color").stdout
    assert "Apply complete!" in applied
    again = terraform("plan", "-detailed-exitcode", "-input=false", "-no-color", check=False)
    assert again.returncode == 0, again.stdout
    printed = json.loads(terraform("output", "-json").stdout)
    assert set(printed["variables"]["value"]) >= {"GCP_PROJECT", "RELEASE_BUCKET"}
    destroyed = terraform("destroy", "-auto-approve", "-input=false", "-no-color").stdout
    assert "Destroy complete!" in destroyed


FAULTS = [
    ("service.tf", "max_instance_request_concurrency =", "max_concurrency =", "Unsupported arg"),
    ("service.tf", "startup_probe {", "start_probe {", "Unsupported block type"),
    ("identity.tf", "    issuer_uri =", "    issuer =", "Unsupported argument"),
    (
        "identity.tf",
        'role               = "roles/iam.workloadIdentityUser"',
        "",
        "Missing required",
    ),
    ("monitoring.tf", "unique_writer_identity = true", 'unique_writer_identity = "yes"', "bool"),
    (
        "service.tf",
        "google_service_account.runtime.email",
        "google_service_account.run.email",
        "undeclared",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[2])
def test_seeded_fault_is_caught(
    fault: tuple[str, str, str, str], terraform: Terraform, tmp_path: Path
) -> None:
    name, old, new, said = fault
    path = tmp_path / "terraform" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    done = terraform("validate", "-no-color", check=False)
    assert done.returncode == 1
    assert said in done.stdout + done.stderr


def test_runbook_takes_back_what_google_keeps(
    render: Render, terraform: Terraform, tmp_path: Path
) -> None:
    """Its file for pools that were undeleted names resources and variables of the module."""
    runbook = (render(cloud="cloud-run") / "docs/runbook.md").read_text()
    (written,) = re.findall(r"```hcl\n(import \{.*?)```", runbook, re.DOTALL)
    (tmp_path / "terraform" / "undeleted.tf").write_text(written)
    terraform("validate", "-no-color")


def test_service_fits_the_api(plans: Plans) -> None:
    """Terraform's schema is not the API's: each field is looked up in the API's own messages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of its support for old Pythons
        from google.cloud import run_v2  # noqa: PLC0415
    from google.protobuf import json_format  # noqa: PLC0415

    found = plans(secrets='["API_KEYS"]', settings='{"MAX_WAITING": "64"}', max_instances="9")
    message = run_v2.Service.pb(run_v2.Service())
    values = found["google_cloud_run_v2_service.this"]
    configured = {k: v for k, v in values.items() if k not in {"deletion_protection", "location"}}
    json_format.ParseDict(as_api(configured, message.DESCRIPTOR), message)
    container = message.template.containers[0]
    assert {each.name for each in container.env} >= {"API_KEYS", "MAX_WAITING", "MODEL_STAGE"}
    assert container.startup_probe.http_get.path == "/readyz"
    assert container.liveness_probe.http_get.path == "/healthz"
    assert message.template.max_instance_request_concurrency == 40
    assert (message.scaling.min_instance_count, message.scaling.max_instance_count) == (0, 9)
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict(
            {"template": {"concurrency": 40}}, run_v2.Service.pb(run_v2.Service())
        )


def test_nobody_has_more_rights_than_it_needs(plans: Plans) -> None:
    found = plans()
    granted = {
        (address.split(".")[1].split("[")[0], values.get("role"))
        for address, values in found.items()
        if "_iam_member." in address
    }
    broad = {role for _, role in granted} & {"roles/owner", "roles/editor", "roles/run.admin"}
    assert broad == set()
    project_wide = {
        (address.split(".")[1].split("[")[0], values.get("role"))
        for address, values in found.items()
        if address.startswith("google_project_iam_member.")
    }
    assert project_wide == {
        ("deploy_lists_revisions", "roles/run.viewer"),
        ("deploy_reads_logs", "roles/logging.viewer"),
        ("plan", "roles/serviceusage.serviceUsageConsumer"),
        ("plan", None),  # its own role, which is not there before an apply
    }
    assert not any("_iam_binding" in address or "_iam_policy" in address for address in found)
    assert not any(
        values.get("member") in {"allUsers", "allAuthenticatedUsers"} for values in found.values()
    )


# Of what a role holds, what a release may ask for: cloud.google.com/iam/docs/roles-permissions.
ROLES = {
    "roles/iam.serviceAccountTokenCreator": {
        "iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.getOpenIdToken",
    },
    "roles/logging.viewer": {"logging.logEntries.list"},
    "roles/run.developer": {"run.revisions.list", "run.services.get", "run.services.update"},
    "roles/run.viewer": {"run.revisions.list", "run.services.get"},
    "roles/storage.objectUser": {
        f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list")
    },
}  # fmt: skip
RELEASE = """
from datetime import UTC, datetime
from flight_delays.release.cloud import open_cloud
from flight_delays.release.manifest import Model, new

model = Model(name="app", version="1", bundle_sha256="b" * 64)
image = "registry.example/app@sha256:" + "a" * 64
cloud = open_cloud("production")
assert cloud.read("lock.json") is None
assert [cloud.create("lock.json", "{}"), cloud.create("lock.json", "{}")] == [True, False]
revision = cloud.stage(new(model, image, "c" * 40))
cloud.candidate(revision)
cloud.promote(revision)
cloud.observe(revision, datetime.now(UTC))
cloud.write("journal.jsonl", cloud.read("lock.json"))
cloud.delete("lock.json")
"""


def test_who_releases_may_do_all_that_gcloud_asks_for(
    module: Path, made: Made, tmp_path: Path
) -> None:
    if shutil.which("gcloud") is None:
        pytest.skip("GCLOUD IS NOT INSTALLED: nothing was asked")
    google = Google("http://127.0.0.1:9")
    google.start("app-production", "registry.example/placeholder")
    with answering(google) as port:
        given = {**os.environ, **variables(tmp_path, port), **imported_from(module)}
        done = subprocess.run(
            [sys.executable, "-c", RELEASE], env=given, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    account = made["google_service_account.deploy"]["values"]["member"]
    granted = {
        (right, each["type"].removeprefix("google_").removesuffix("_iam_member"))
        for each in made.values()
        if each["values"].get("member") == account and "_iam_member" in each["type"]
        for right in ROLES.get(each["values"]["role"], set())
    }
    assert needed(google.asked) <= granted


def test_settings_of_the_service_itself_take_effect_at_once(plans: Plans) -> None:
    """A change of the template makes a revision, which gets no traffic before a release."""
    before, after = (plans(**given)[SERVICE] for given in ({}, {"max_instances": "9"}))
    assert after["template"] == before["template"]
    assert [each["max_instance_count"] for each in after["scaling"]] == [9]


def names(made: Made, kind: str) -> set[str]:
    """Return the environment variables of the service or of the job."""
    template = made[f"google_cloud_run_v2_{kind}"]["values"]["template"][0]
    (container,) = template.get("containers") or template["template"][0]["containers"]
    return {each["name"] for each in container["env"]}


def test_only_monitoring_is_given_its_settings_and_secrets(made: Made) -> None:
    service, job = names(made, "service.this"), names(made, "job.monitoring")
    assert {"API_KEYS", "MLFLOW_TRACKING_PASSWORD"} <= service
    assert {"LOGIN", "MLFLOW_TRACKING_PASSWORD", "MONITOR_REQUESTS"} <= job
    assert not {"LOGIN", "MONITOR_REQUESTS", "MLFLOW_OLD"} & service
    assert not {"API_KEYS", "MLFLOW_OLD"} & job
    member = "google_secret_manager_secret_iam_member"
    readers = {each.removeprefix(member) for each in made if each.startswith(member)}
    secrets = ("API_KEYS", "LOGIN", "MLFLOW_OLD", "MLFLOW_TRACKING_PASSWORD")
    plan = {f'.plan["{name}"]' for name in secrets}
    assert readers - plan == {
        '.runtime["API_KEYS"]', '.runtime["MLFLOW_TRACKING_PASSWORD"]',
        '.runtime["MLFLOW_OLD"]',  # of the revisions that name it still
        '.monitoring["LOGIN"]', '.monitoring["MLFLOW_TRACKING_PASSWORD"]',
    }  # fmt: skip
    for name in plan:
        version = made[name.replace(".plan", "google_secret_manager_secret_version.unset")]
        (condition,) = made[member + name]["values"]["condition"]
        assert condition["expression"] == f"resource.name == '{version['values']['name']}'"


@pytest.mark.parametrize("name", ["API_KEYS", "GITHUB_TOKEN", "RETRAIN_SECRET", "WEBHOOK_SECRET"])
def test_nothing_starts_with_a_secret_that_was_never_given_a_value(
    name: str, module: Path, made: Made, tmp_path: Path
) -> None:
    placeholder = made['google_secret_manager_secret_version.unset["API_KEYS"]']["values"]
    given = {**os.environ, name: placeholder["secret_data"], **imported_from(module)}
    words = [sys.executable, "-c", "from flight_delays.settings import load; load()"]
    done = subprocess.run(
        words, cwd=tmp_path, env=given, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"error: {name}='unset' in the environment" in done.stderr
    assert "the secret was never given a value" in done.stderr


def test_document_calls_secrets_by_their_names(module: Path, made: Made) -> None:
    secret = made['google_secret_manager_secret.setting["API_KEYS"]']["values"]["secret_id"]
    document = (module.parents[1] / "docs" / "deployment.md").read_text()
    assert document.count(secret.replace("-staging-", "-production-")) == 3


def test_a_budget_waits_for_its_api(plans: Plans, made: Made) -> None:
    api = 'google_project_service.needed["billingbudgets.googleapis.com"]'
    assert api in made
    assert api not in plans()
    assert "google_project_service.needed" in made["google_billing_budget.this[0]"]["depends_on"]


def test_nothing_is_made_before_the_apis_are_on(made: Made) -> None:
    api = "google_project_service.needed"
    hasty = {
        address
        for address, each in made.items()
        if each["mode"] == "managed" and not address.startswith(api)
        if api not in each.get("depends_on", [])
    }
    assert hasty == set()


def test_production_in_a_project_of_its_own(applied: Callable[..., Any]) -> None:
    values = applied(environment="production", registry_project="staging-project")
    kind = "google_artifact_registry_repository_iam_member"
    grants = {
        each["name"]: each for each in values["root_module"]["resources"] if each["type"] == kind
    }
    # The account that pulls is there once there is a service.
    assert SERVICE in grants["cloud_run"]["depends_on"]
    # Its plan would look into staging's registry, so pull requests get staging's.
    assert values["outputs"]["plan_variables"]["value"] == {}


# What the provider asks of each kind of resource when it looks whether it has changed.
READS = {
    "google_artifact_registry_repository": "artifactregistry.repositories.get",
    "google_billing_budget": "",  # of the billing account, not of the project
    "google_cloud_run_v2_job": "run.jobs.get",
    "google_cloud_run_v2_service": "run.services.get",
    "google_cloud_scheduler_job": "cloudscheduler.jobs.get",
    "google_iam_workload_identity_pool": "iam.workloadIdentityPools.get",
    "google_iam_workload_identity_pool_provider": "iam.workloadIdentityPoolProviders.get",
    "google_logging_project_sink": "logging.sinks.get",
    "google_monitoring_alert_policy": "monitoring.alertPolicies.get",
    "google_monitoring_notification_channel": "monitoring.notificationChannels.get",
    "google_project": "resourcemanager.projects.get",
    "google_project_iam_custom_role": "iam.roles.get",
    "google_project_service": "",  # serviceusage.services.list, of the other role
    "google_secret_manager_secret": "secretmanager.secrets.get",
    "google_secret_manager_secret_version": "secretmanager.versions.get",
    "google_service_account": "iam.serviceAccounts.get",
    "google_storage_bucket": "storage.buckets.get",
}


def test_who_plans_reads_how_things_are_set_up_and_nothing_else(made: Made) -> None:
    member = "_iam_member"
    kinds = {each["type"] for each in made.values()}
    reads = {READS[kind] for kind in kinds if not kind.endswith(member)} | {
        f"{READS[kind.removesuffix(member)].removesuffix('.get')}.getIamPolicy"
        for kind in kinds
        if kind.endswith(member)
    }
    role = made["google_project_iam_custom_role.plan"]["values"]
    assert set(role["permissions"]) == reads - {""}
    account = made["google_service_account.plan"]["values"]["member"]
    granted = {
        (each["type"], each["values"]["role"])
        for each in made.values()
        if each["values"].get("member") == account and each["type"].endswith(member)
    }
    assert granted == {
        ("google_project_iam_member", role["name"]),
        ("google_project_iam_member", "roles/serviceusage.serviceUsageConsumer"),
        ("google_secret_manager_secret_iam_member", "roles/secretmanager.secretAccessor"),
        ("google_storage_bucket_iam_member", "roles/storage.objectViewer"),
    }


def test_who_plans_reads_the_state_where_bootstrap_put_it(module: Path, made: Made) -> None:
    place = (module.parents[1] / "src" / "flight_delays" / "operate" / "place.py").read_text()
    (name,) = re.findall(r'return f"(\{self\.project\}-[\w-]+)"', place)
    bucket = made["google_storage_bucket_iam_member.plan"]["values"]["bucket"]
    assert bucket == name.replace("{self.project}", GIVEN["project"])


# In half an hour: how many requests fail, of how many, and whether that is to be told of.
FAILURES = [(2, 2, True), (2, 30, True), (1, 1, False), (2, 50, False), (60, 100_000, False)]


@pytest.mark.parametrize(("failed", "requests", "told"), FAILURES)
def test_errors_are_told_of_by_their_share(
    failed: int, requests: int, told: bool, plans: Plans
) -> None:
    policy = plans()["google_monitoring_alert_policy.errors"]
    conditions = [each["condition_threshold"][0] for each in policy["conditions"]]
    assert policy["combiner"] == "AND"
    assert {each["aggregations"][0]["alignment_period"] for each in conditions} == {"1800s"}
    assert all('response_code_class="5xx"' in each["filter"] for each in conditions)
    found = [
        failed / (requests if each["denominator_filter"] else 1) > each["threshold_value"]
        for each in conditions
    ]
    assert all(found) is told


def test_alarms_of_monitoring_are_told(plans: Plans, made: Made) -> None:
    address = "google_monitoring_alert_policy.monitoring[0]"
    assert address not in plans()
    policy = made[address]["values"]
    channel = made["google_monitoring_notification_channel.email[0]"]["values"]
    assert policy["notification_channels"] == [channel["name"]]
    job = made["google_cloud_run_v2_job.monitoring"]["values"]["name"]
    told = policy["conditions"][0]["condition_threshold"][0]["filter"]
    assert f'resource.labels.job_name="{job}"' in told
    assert 'metric.labels.result="failed"' in told


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_only_the_repositorys_environments_may_deploy(environment: str, plans: Plans) -> None:
    found = plans(environment=environment)
    provider = found["google_iam_workload_identity_pool_provider.github"]
    assert provider["attribute_condition"] == (
        f"assertion.repository_id == '123456' && assertion.environment in ['{environment}', 'plan']"
    )
    # GitHub's own subject holds names, which may be longer than Google takes.
    assert not {"assertion.sub"} & set(provider["attribute_mapping"].values())


def test_only_staging_may_push_images(plans: Plans) -> None:
    address = "google_artifact_registry_repository_iam_member.deploy"
    assert plans()[address]["role"] == "roles/artifactregistry.writer"
    production = plans(environment="production")
    assert production[address]["role"] == "roles/artifactregistry.reader"
    assert "google_artifact_registry_repository.images[0]" not in production


def test_weekly_image_outlives_what_each_release_makes(plans: Plans) -> None:
    found = plans()["google_artifact_registry_repository.images[0]"]["cleanup_policies"]
    kept = [each["condition"] for each in found if each["action"] == "KEEP" and each["condition"]]
    assert [each["tag_prefixes"] for (each,) in kept] == [["monitoring-"]]


def test_names_fit_googles_limits(plans: Plans) -> None:
    found = plans(environment="production", name="a" * 14)
    accounts = [
        v["account_id"] for a, v in found.items() if a.startswith("google_service_account.")
    ]
    assert len(accounts) == 5
    assert all(6 <= len(name) <= 30 for name in accounts)
    pool = found["google_iam_workload_identity_pool.github"]["workload_identity_pool_id"]
    assert 4 <= len(pool) <= 32


def test_name_that_is_too_long_for_a_bucket_is_told_before_anything_is_made(
    terraform: Terraform,
) -> None:
    def planned(length: int, environment: str) -> "subprocess.CompletedProcess[str]":
        given = {"project": "p" * length, "environment": environment, "name": "a" * 14}
        return terraform(
            "plan", "-input=false", "-no-color", check=False,
            **{f"TF_VAR_{name}": value for name, value in given.items()},
        )  # fmt: skip

    assert planned(25, "production").returncode == 0
    refused = planned(26, "production")
    assert refused.returncode == 1
    assert "shorter default in variables.tf" in " ".join(refused.stderr.split())
    warned = planned(26, "staging")
    assert warned.returncode == 0
    assert "Production in this project would have" in " ".join(warned.stdout.split())
    assert "Production in this project" not in planned(25, "staging").stdout


def test_apply_does_not_put_back_what_a_release_deployed(
    terraform: Terraform, tmp_path: Path
) -> None:
    terraform("apply", "-auto-approve", "-input=false")
    path = tmp_path / "terraform" / "terraform.tfstate"
    state = json.loads(path.read_text())
    service = next(r for r in state["resources"] if r["type"] == "google_cloud_run_v2_service")
    values = service["instances"][0]["attributes"]
    template = values["template"][0]
    template["containers"][0]["image"] = "registry/app@sha256:abc"
    template["labels"] = values["labels"] = {"release": "r1"}
    values["traffic"] = [{**values["traffic"][0], "revision": "app-00002-abc"}]
    state["serial"] += 1
    path.write_text(json.dumps(state))
    terraform("plan", "-detailed-exitcode", "-input=false", "-refresh=false")
    changed = {"TF_VAR_settings": '{"MAX_WAITING": "64"}'}
    terraform("plan", "-input=false", "-out=plan.bin", "-refresh=false", **changed)
    plan = json.loads(terraform("show", "-json", "plan.bin").stdout)
    after = next(
        c["change"]["after"]
        for c in plan["resource_changes"]
        if c["address"] == "google_cloud_run_v2_service.this"
    )
    assert after["template"][0]["containers"][0]["image"] == "registry/app@sha256:abc"
    assert after["traffic"][0]["revision"] == "app-00002-abc"


def test_format_is_terraforms(module: Path) -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", "-recursive", module],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
