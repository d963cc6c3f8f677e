"""Google Cloud's side of the tracking server: where its state is, and the job that upgrades it."""

from ..release.command import run
from . import terraform
from .place import Place

UPGRADES = "google_cloud_run_v2_job.upgrade"  # what takes a new image before the server does


def given(place: Place) -> list[str]:
    """Return the variables that nobody writes down."""
    return [f"project={place.project}", f"region={place.region}", f"name={terraform.name()}"]


def upgrade(place: Place, job: str) -> None:
    """Run the job, and return once it has succeeded."""
    where = [f"--project={place.project}", f"--region={place.region}"]
    run(["gcloud", "run", "jobs", "execute", job, "--wait", "--quiet", *where])
