"""Bootstrap, check, apply and destroy what the service needs in its cloud and on GitHub."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import run_command
from ..release.interface import CloudError
from . import github, terraform
from .place import Place
from .steps import carry_out

ENVIRONMENTS = ("staging", "production")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="operate", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        text = str(function.__doc__).splitlines()[0]
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--env", choices=ENVIRONMENTS, required=True)
        command.add_argument("--yes", action="store_true", help="do it; without, only say what")
        command.add_argument("--plain", action="store_true", help="without colours, for a file")
    return parser.parse_args(arguments)


def _bootstrap(place: Place, chosen: argparse.Namespace) -> int:
    """Make what Terraform and GitHub need before they can begin; look first."""
    steps = [*place.foundations(), *github.environments(place.repository)]
    if carry_out(steps, chosen.yes):
        print("\nNothing was made. To make what is missing, add ARGS=--yes.")
    else:
        print(f"\nNext: make apply ENV={place.environment} && make github ENV={place.environment}")
    return 0


def _doctor(place: Place, _chosen: argparse.Namespace) -> int:
    """Check all that a release needs, and print the fix of what is missing."""
    missing = carry_out(place.checks(), really=False)
    print(f"\n{missing or 'nothing'} to fix")
    return 1 if missing else 0


def _plan(place: Place, chosen: argparse.Namespace) -> int:
    """Say what Terraform would change."""
    place.terraform("plan", "-lock=false", *(["-no-color"] if chosen.plain else []))
    return 0


def _apply(place: Place, _chosen: argparse.Namespace) -> int:
    """Let Terraform change what is different, after it has asked."""
    place.terraform("apply")
    wanted = terraform.outputs().get("variables", {})
    if not github.has_variables(place.repository, place.environment, wanted):
        print(f"\nGitHub has not these variables. Next: make github ENV={place.environment}")
    return 0


def _github(place: Place, _chosen: argparse.Namespace) -> int:
    """Copy Terraform's outputs to the variables of GitHub's environments."""
    terraform.initialise(terraform.FOLDER, place.backend)  # it may have been another's state
    here, outputs = place.repository, terraform.outputs()
    carry_out(github.variables(here, place.environment, outputs["variables"]), really=True)
    carry_out(github.variables(here, "plan", outputs["plan_variables"]), really=True)
    return 0


def _destroy(place: Place, chosen: argparse.Namespace) -> int:
    """Destroy an environment and list what is left of it."""
    if not chosen.yes:
        place.terraform("plan", "-destroy", "-lock=false")
        print("\nNothing was destroyed. To destroy this, add ARGS=--yes.")
        return 0
    if chosen.env == "staging" and (others := replace(place, environment="production").survivors()):
        raise CloudError(
            "production takes its images from the registry that goes with staging; destroy "
            f"production first: {', '.join(others)}"
        )
    failed = False
    try:
        place.terraform("destroy", "-auto-approve")
    except terraform.TerraformFailedError as error:
        failed = True  # and what is left is what matters now
        print(f"{error}; `{terraform.LIST}` names what it still knows", file=sys.stderr)
    left = place.survivors()
    nothing = "nothing else is found" if failed else "nothing is left"
    print("\n".join(f"left    {each}" for each in left) or nothing)
    return 1 if left or failed else 0


COMMANDS: dict[str, Callable[[Place, argparse.Namespace], int]] = {
    "bootstrap": _bootstrap,
    "doctor": _doctor,
    "plan": _plan,
    "apply": _apply,
    "github": _github,
    "destroy": _destroy,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit 1 if something is missing or left."""
    chosen = parse(arguments)
    return COMMANDS[chosen.command](Place.found(chosen.env), chosen)


if __name__ == "__main__":
    run_command(main)
