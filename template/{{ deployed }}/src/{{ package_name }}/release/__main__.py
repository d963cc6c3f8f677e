"""Release: build once, deploy by digest, roll back, look."""

import argparse
import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import config
from ..errors import ConfigError, run_command
from ..settings import ROOT
from . import journal, manifest
from .build import Source, build
from .cloud import open_cloud
from .interface import Cloud
from .plan import Plan
from .program import Program

ENVIRONMENTS = ("staging", "production")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        text = str(function.__doc__).splitlines()[0]
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--env", choices=ENVIRONMENTS, required=True)
        _add_options(name, command)
    return parser.parse_args(arguments)


def _add_options(name: str, command: argparse.ArgumentParser) -> None:
    if name == "build":
        command.add_argument("--repository", required=True, help="the image's name, without a tag")
        command.add_argument("--target", choices=["baked", "registry"], default="baked")
        command.add_argument("--model", type=Path, required=True, help="a version.json")
    if name in {"build", "deploy"}:
        command.add_argument("--manifest", type=Path, default=Path("release.json"))
    if name == "rollback":
        command.add_argument("--to", metavar="RELEASE", help="default: the last good one")
        command.add_argument("--reason", default="", help="why, for the journal")


def _build(cloud: Cloud, chosen: argparse.Namespace) -> Any:
    """Build and push the image, unless it is there, and write the manifest."""
    source = Source(_commit(), manifest.load_model(chosen.model), chosen.target)
    made = build(cloud, chosen.repository, source)
    made.save(chosen.manifest)
    return made.model_dump()


def _deploy(cloud: Cloud, chosen: argparse.Namespace) -> Any:
    """Take a manifest to 100 %, or back to what served before."""
    plan = config.load("release", Plan)
    if chosen.env == "staging":
        plan = plan.model_copy(update={"canary": []})
    return {"serves": Program(cloud, plan).release(manifest.load(chosen.manifest))}


def _rollback(cloud: Cloud, chosen: argparse.Namespace) -> Any:
    """Give all traffic back to an earlier release."""
    program = Program(cloud, config.load("release", Plan))
    return {"serves": program.rollback(chosen.reason, chosen.to)}


def _status(cloud: Cloud, _chosen: argparse.Namespace) -> Any:
    """Say what serves, who is releasing, and what happened."""
    lock = journal.holder(cloud)
    return {
        "traffic": cloud.traffic(),
        "lock": asdict(lock) if lock else None,
        "journal": [asdict(event) for event in journal.events(cloud)],
    }


def _unlock(cloud: Cloud, _chosen: argparse.Namespace) -> Any:
    """Put back what a killed release left, and free its lock."""
    return {"unlocked": Program(cloud, config.load("release", Plan)).unlock() or "nothing"}


COMMANDS = {
    "build": _build,
    "deploy": _deploy,
    "rollback": _rollback,
    "status": _status,
    "unlock": _unlock,
}


def _commit() -> str:
    """Return the commit, of a working tree without changes."""
    git = ["git", "-C", str(ROOT)]
    try:
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        raise ConfigError(f"{ROOT} has no git commit to release") from None
    if changed:
        raise ConfigError("there are changes that are not committed; commit them, then release")
    return head.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: exit 3 if a candidate was rejected, 4 on a conflict, 5 if stranded."""
    chosen = parse(arguments)
    result = COMMANDS[chosen.command](open_cloud(chosen.env), chosen)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    run_command(main)
