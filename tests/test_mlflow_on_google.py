"""The Terraform that hosts the tracking server on Google Cloud, against the provider's schema."""

import json
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Render, once
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

IMAGE = f"europe-west1-docker.pkg.dev/stub-project/app-mlflow/server@sha256:{'a' * 64}"
GIVEN = {"project": "stub-project", "name": "app", "ingress": "all"}
SERVICE = "google_cloud_run_v2_service.server[0]"
DATABASE = "google_sql_database_instance.this"
HOST = "app-mlflow-123456789012.europe-west1.run.app"

pytestmark = NO_TERRAFORM


@pytest.fixture(scope="session")
def described(render: Render) -> dict[str, Any]:
    """The server as compose.yaml describes it."""
    project = render(cloud="cloud-run", tracking="server")
    read = yaml.safe_load((project / "deploy/mlflow/compose.yaml").read_text())
    server: dict[str, Any] = read["services"]["server"]
    return server


@pytest.fixture(scope="session")
def initialised(render: Render, shared: Path) -> Path:
    """A copy of deploy/mlflow whose Terraform is initialised, to be copied."""
    mirror = google_mirror(render, shared)

    def build(target: Path) -> None:
        project = render(cloud="cloud-run", tracking="server")
        shutil.copytree(project / "deploy" / "mlflow", target)
        initialise(target / "terraform", mirror)

    return once(shared / "mlflow-on-google", build)


@pytest.fixture
def folder(initialised: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(initialised, tmp_path / "mlflow")) / "terraform"


@pytest.fixture
def terraform(folder: Path) -> Terraform:
    """A function that runs Terraform in a copy of the module, to be changed."""
    return command(folder, **GIVEN)


@pytest.fixture(scope="session")
def plans(initialised: Path, tmp_path_factory: pytest.TempPathFactory) -> Plans:
    """A function from variables to what is planned for each resource, by address."""
    folder = Path(shutil.copytree(initialised, tmp_path_factory.mktemp("plan") / "mlflow"))
    return planner(command(folder / "terraform", **GIVEN))


def containers(plan: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {each["name"]: each for each in plan[SERVICE]["template"][0]["containers"]}


def test_all_is_made_before_there_is_an_image_then_the_server_and_then_nothing(
    folder: Path, terraform: Terraform
) -> None:
    terraform("validate", "-no-color")
    terraform("apply", "-auto-approve", "-input=false")
    made = terraform("state", "list").stdout
    assert "google_artifact_registry_repository.images" in made
    assert "google_cloud_run_v2_" not in made
    with_image = {"TF_VAR_image": IMAGE}
    terraform("apply", "-auto-approve", "-input=false", **with_image)
    assert SERVICE in terraform("state", "list").stdout
    again = terraform(
        "plan", "-detailed-exitcode", "-input=false", "-no-color", check=False, **with_image
    )
    assert again.returncode == 0, again.stdout
    printed = json.loads(terraform("output", "-json").stdout)
    assert printed["url"]["value"] == f"https://{HOST}"
    assert IMAGE.startswith(printed["image_repository"]["value"] + "@")
    # What is ephemeral is opened once more than it is used, and its values are the stand-in's.
    assert "stub-secret_data" not in (folder / "terraform.tfstate").read_text()
    assert "stub-result" not in (folder / "terraform.tfstate").read_text()
    done = terraform("destroy", "-auto-approve", "-input=false", "-no-color", **with_image)
    assert "Destroy complete!" in done.stdout


FAULTS = [
    ("database.tf", "connector_enforcement ", "connector_required ", "Unsupported argument"),
    ("database.tf", "backup_retention_settings {", "retention {", "Unsupported block type"),
    ("database.tf", '  database_version    = "POSTGRES_17"\n', "", "Missing required argument"),
    ("database.tf", "  password_wo  ", "  password  ", "Invalid use of ephemeral value"),
    ("secrets.tf", "  secret_data_wo  ", "  secret_data  ", "Invalid use of ephemeral value"),
    ("secrets.tf", "random_password.new[each.key].result", "random_password.new.result", "Missing"),
    ("server.tf", "cloud_sql_instance {", "cloudsql_instance {", "Unsupported block type"),
    ("storage.tf", "enabled = true", 'enabled = "yes"', "bool"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[1].strip())
def test_seeded_fault_is_caught(
    fault: tuple[str, str, str, str], folder: Path, terraform: Terraform
) -> None:
    name, old, new, said = fault
    path = folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    done = terraform("validate", "-no-color", check=False)
    assert done.returncode == 1
    assert said in done.stdout + done.stderr


def test_server_runs_the_command_of_compose_with_another_bucket(
    plans: Plans, described: dict[str, Any]
) -> None:
    found = containers(plans(image=IMAGE))["server"]["command"]
    changed = {"s3://mlflow": "gs://stub-project-app-mlflow-artifacts"}
    assert found == [changed.get(word, word) for word in described["command"]]


def test_server_is_told_what_compose_tells_it(plans: Plans, described: dict[str, Any]) -> None:
    found = containers(plans(image=IMAGE))["server"]["env"]
    plain = {each["name"]: each.get("value") for each in found if not each.get("value_source")}
    # AWS_* are of Compose's own bucket, and Google's library asks the machine who it is.
    asked = {name for name in described["environment"] if not name.startswith("AWS_")}
    given = {each["name"] for each in found}
    more = {"MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "UVICORN_TIMEOUT_KEEP_ALIVE"}
    assert given == asked | more
    for name in ("MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "PGUSER"):
        assert plain[name] == described["environment"][name]
    assert plain["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert plain["MLFLOW_SERVER_ALLOWED_HOSTS"] == HOST
    assert plain["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == f"https://{HOST}"
    secret = {name for name, value in described["environment"].items() if ":?" in value}
    assert given - plain.keys() == secret - {"AWS_SECRET_ACCESS_KEY"}


def test_further_names_are_answered_as_well(plans: Plans) -> None:
    server = containers(plans(image=IMAGE, hosts='["mlflow.example.com"]'))["server"]
    plain = {each["name"]: each.get("value") for each in server["env"]}
    assert plain["MLFLOW_SERVER_ALLOWED_HOSTS"] == f"{HOST},mlflow.example.com"


def test_upgrade_is_of_the_database_that_the_server_uses(plans: Plans) -> None:
    found = plans(image=IMAGE)
    job = found["google_cloud_run_v2_job.upgrade[0]"]["template"][0]["template"][0]
    (container,) = job["containers"]
    assert container["command"] == ["mlflow", "db", "upgrade", "postgresql+psycopg://"]
    assert container["image"] == IMAGE
    named = {each["name"] for each in container["env"]}
    assert {"PGHOST", "PGUSER", "PGDATABASE", "PGPASSWORD"} <= named


def test_service_fits_the_api(plans: Plans) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of its support for old Pythons
        from google.cloud import run_v2  # noqa: PLC0415
    from google.protobuf import json_format  # noqa: PLC0415

    values = json.loads(json.dumps(plans(image=IMAGE)[SERVICE]))
    (volume,) = values["template"][0]["volumes"]
    volume["cloud_sql_instance"][0]["instances"] = ["known:after:apply"]
    message = run_v2.Service.pb(run_v2.Service())
    configured = {k: v for k, v in values.items() if k not in {"deletion_protection", "location"}}
    json_format.ParseDict(as_api(configured, message.DESCRIPTOR), message)
    proxy, server = message.template.containers
    assert (proxy.ports[0].name, proxy.ports[0].container_port) == ("h2c", 8080)
    assert list(proxy.depends_on) == [server.name]
    assert len(server.ports) == 0  # only one container of an instance is asked from outside
    assert server.startup_probe.http_get.port == 5000


def test_nothing_is_let_go_by_mistake(plans: Plans) -> None:
    found = plans(image=IMAGE)
    database, bucket = found[DATABASE], found["google_storage_bucket.artifacts"]
    settings = database["settings"][0]
    assert database["deletion_protection"]
    assert settings["deletion_protection_enabled"]
    assert found[SERVICE]["deletion_protection"]
    backup = settings["backup_configuration"][0]
    assert backup["enabled"]
    assert backup["point_in_time_recovery_enabled"]
    assert bucket["versioning"][0]["enabled"]
    assert not bucket["force_destroy"]


def test_nobody_comes_in_but_by_the_server(plans: Plans) -> None:
    found = plans(image=IMAGE)
    settings = found[DATABASE]["settings"][0]
    assert settings["connector_enforcement"] == "REQUIRED"
    assert settings["ip_configuration"][0]["authorized_networks"] == []
    assert settings["ip_configuration"][0]["ssl_mode"] == "ENCRYPTED_ONLY"
    bucket = found["google_storage_bucket.artifacts"]
    assert bucket["public_access_prevention"] == "enforced"
    assert bucket["uniform_bucket_level_access"]
    given = {
        (address.split(".")[0], values["role"])
        for address, values in found.items()
        if "_iam_" in address
    }
    assert given == {
        ("google_project_iam_member", "roles/cloudsql.client"),
        ("google_secret_manager_secret_iam_member", "roles/secretmanager.secretAccessor"),
        ("google_storage_bucket_iam_member", "roles/storage.objectUser"),
    }
    (condition,) = found["google_project_iam_member.server"]["condition"]
    assert "instances/app-mlflow'" in condition["expression"]


def test_from_where_it_is_asked_has_no_default(terraform: Terraform, plans: Plans) -> None:
    assert plans(image=IMAGE)[SERVICE]["ingress"] == "INGRESS_TRAFFIC_ALL"
    inside = plans(image=IMAGE, ingress="internal")[SERVICE]
    assert inside["ingress"] == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    for value in ("", "public"):
        done = terraform("plan", "-input=false", "-no-color", check=False, TF_VAR_ingress=value)
        assert "The ingress is all or internal." in done.stderr


def test_image_is_named_by_its_digest(terraform: Terraform) -> None:
    moving = {"TF_VAR_image": IMAGE.partition("@")[0] + ":latest"}
    done = terraform("plan", "-input=false", "-no-color", check=False, **moving)
    assert "by its digest" in done.stderr


def test_names_fit_googles_limits(plans: Plans) -> None:
    found = plans(image=IMAGE, name="a" * 14)
    assert len(found["google_service_account.server"]["account_id"]) <= 30


def test_format_is_terraforms(initialised: Path) -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", initialised / "terraform"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
