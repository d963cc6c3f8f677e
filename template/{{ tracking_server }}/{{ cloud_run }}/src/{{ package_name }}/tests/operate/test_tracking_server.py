"""The tracking server has a state, an image and an upgrade of its own, on Google Cloud."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ...operate import tracking_server
from ...release.interface import CloudError
from .conftest import GITHUB, Commands

REPOSITORY = "europe-west1-docker.pkg.dev/project/example-mlflow/server"
INIT = (
    "terraform init -reconfigure -input=false -backend-config=bucket=project-terraform-state "
    "-backend-config=prefix=example-mlflow"
)
GIVEN = "-var=project=project -var=region=europe-west1 -var=name=example"


class Clouds(Commands):
    """Plays gcloud and Docker as well."""

    printed: dict[str, object] = {  # noqa: RUF012
        "image_repository": {"value": REPOSITORY},
        "upgrade": {"value": "example-mlflow-upgrade"},
    }

    def reads(self, words: Sequence[str]) -> bool:
        return any(word in {"inspect", "output", "view"} for word in words)

    def answer(self, line: str) -> str:
        answers: dict[str, object] = {
            **GITHUB,
            "terraform": self.printed,
            "docker image inspect": ["other@sha256:1", f"{REPOSITORY}@sha256:2"],
        }
        return json.dumps(next(answer for start, answer in answers.items() if start in line))


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clouds:
    fake = Clouds()
    fake.play(monkeypatch, tmp_path)
    monkeypatch.setenv("GCP_PROJECT", "project")
    return fake


def test_server_has_a_state_beside_the_environments(clouds: Clouds) -> None:
    assert tracking_server.main(["plan"]) == 0
    assert tracking_server.main(["apply", "-destroy"]) == 0
    plan, apply = f"terraform plan {GIVEN} -lock=false", f"terraform apply {GIVEN} -destroy"
    assert clouds.made == [INIT, plan, INIT, apply]


def test_image_is_the_one_of_compose_with_what_the_cloud_adds(
    clouds: Clouds, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_VERSION", "3.99.0")
    assert tracking_server.main(["image"]) == 0
    built = next(line for line in clouds.made if line.startswith("docker build"))
    assert f"--tag {REPOSITORY}:3.99.0-" in built
    assert '"mlflow[auth]==3.99.0"' in built
    assert built.endswith(tracking_server.recipe("3.99.0").strip())
    assert "${" not in built
    assert f"docker push --quiet {REPOSITORY}:3.99.0-" in clouds.made[-1]
    assert capsys.readouterr().out == f'image = "{REPOSITORY}@sha256:2"\n'


def test_image_needs_a_registry(clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "printed", {})
    with pytest.raises(CloudError, match="make mlflow-apply"):
        tracking_server.main(["image"])


def test_upgrade_changes_the_job_alone_and_runs_it(clouds: Clouds) -> None:
    assert tracking_server.main(["upgrade"]) == 0
    where = "--project=project --region=europe-west1"
    assert clouds.made == [
        INIT,
        f"terraform apply {GIVEN} -target=google_cloud_run_v2_job.upgrade",
        f"gcloud run jobs execute example-mlflow-upgrade --wait --quiet {where}",
    ]
