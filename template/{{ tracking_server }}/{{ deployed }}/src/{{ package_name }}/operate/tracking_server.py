"""Plan, apply, build and upgrade the tracking server that deploy/mlflow/terraform hosts.

It has a state of its own, because it outlives any environment of the service and serves them all.
"""

import argparse
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import yaml

from ..errors import run_command
from ..release.build import PLATFORM
from ..release.command import run, run_json
from ..release.interface import CloudError
from ..release.variables import variable
from ..settings import ROOT
from . import terraform, tracking_place
from .place import Place

NAME = "mlflow"  # where environments of the service are called staging and production
DESCRIBED = ROOT / "deploy" / "mlflow"
FOLDER = DESCRIBED / "terraform"


def recipe(mlflow: str) -> str:
    """Return the Dockerfile: compose.yaml's for a version of MLflow, and what the cloud adds."""
    described = yaml.safe_load((DESCRIBED / "compose.yaml").read_text(encoding="utf-8"))
    inline: str = described["services"]["server"]["build"]["dockerfile_inline"]
    more = (DESCRIBED / "cloud.Dockerfile").read_text(encoding="utf-8")
    return f"{inline.replace('${MLFLOW_VERSION}', mlflow)}\n{more}"


def _on_its_state(place: Place, *words: str) -> None:
    """Run a command that compares or changes; it reads terraform.tfvars itself."""
    terraform.run_in(FOLDER, place.backend, tracking_place.given(place), words)


def _plan(place: Place, words: Sequence[str]) -> None:
    """Say what Terraform would change."""
    _on_its_state(place, "plan", "-lock=false", *words)


def _apply(place: Place, words: Sequence[str]) -> None:
    """Let Terraform change what is different, after it has asked."""
    _on_its_state(place, "apply", *words)


def _image(place: Place, _words: Sequence[str]) -> None:
    """Build the server's image, push it, and print its name for terraform.tfvars."""
    terraform.initialise(FOLDER, place.backend)
    repository = terraform.printed(FOLDER).get("image_repository")
    if repository is None:
        raise CloudError("there is no registry to push to yet; `make mlflow-apply` makes it")
    mlflow = variable("MLFLOW_VERSION", version("mlflow"))
    # Two builds of one version differ in the packages below it, so each has a tag of its own.
    name = f"{repository}:{mlflow}-{datetime.now(UTC):%Y%m%d%H%M%S}"
    build = ["docker", "build", "--platform", PLATFORM, "--file", "-", "--tag", name]
    run([*build, str(DESCRIBED)], recipe(mlflow))
    run(["docker", "push", "--quiet", name])
    known = run_json(["docker", "image", "inspect", "--format={{json .RepoDigests}}", name])
    print(f'image = "{next(each for each in known if each.startswith(f"{repository}@"))}"')


def _upgrade(place: Place, words: Sequence[str]) -> None:
    """Bring the tables up to the version of the image that terraform.tfvars names."""
    _on_its_state(place, "apply", f"-target={tracking_place.UPGRADES}", *words)
    tracking_place.upgrade(place, terraform.printed(FOLDER)["upgrade"])
    print("\nThe tables are upgraded. Next: make mlflow-apply")


COMMANDS: dict[str, Callable[[Place, Sequence[str]], None]] = {
    "plan": _plan,
    "apply": _apply,
    "image": _image,
    "upgrade": _upgrade,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; what it does not know goes to Terraform."""
    parser = argparse.ArgumentParser(prog="tracking_server", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        commands.add_parser(name, help=str(function.__doc__).splitlines()[0])
    chosen, words = parser.parse_known_args(arguments)
    COMMANDS[chosen.command](Place.found(NAME), words)
    return 0


if __name__ == "__main__":
    run_command(main)
