"""Release: build once, deploy by digest, roll back, look."""

import argparse
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from .. import config
from ..errors import ConfigError, run_command
from ..serving.fetch import fetch
from ..settings import ROOT
from ..settings import load as load_settings
from . import journal, manifest
from .build import Source, build, monitoring
from .bundle import numbered
from .cloud import open_cloud
from .plan import Plan
from .program import Program
from .targets import TARGETS
from .trial import trial
from .variables import variable

ENVIRONMENTS = ("staging", "production")
RECORD = Path("bundle/version.json")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        text = str(function.__doc__).splitlines()[0]
        command = commands.add_parser(name, help=text, description=text)
        _add_options(name, command)
    return parser.parse_args(arguments)


def _add_options(name: str, command: argparse.ArgumentParser) -> None:
    if name == "try":
        command.add_argument("image", help="its name, on this machine")
    elif name == "bundle":
        command.add_argument("--version", required=True, metavar="N", help="of the model")
        command.add_argument("--out", type=Path, default=RECORD.parent, help="the folder to write")
    else:
        command.add_argument("--env", choices=ENVIRONMENTS, required=True)
    if name in {"build", "try"}:
        command.add_argument("--model", type=Path, default=RECORD, help="the bundle's version.json")
    if name in {"build", "deploy"}:
        command.add_argument("--manifest", type=Path, default=Path("release.json"))
    if name == "rollback":
        command.add_argument("--to", metavar="RELEASE", help="default: the last good one")
        command.add_argument("--reason", default="", help="why, for the journal")


def _bundle(chosen: argparse.Namespace) -> Any:
    """Fetch the bundle of a version, whatever its stage, to release it."""
    return fetch(load_settings(), numbered(chosen.version), chosen.out).model_dump()


def _build(chosen: argparse.Namespace) -> Any:
    """Build and push the image, unless it is there, and write the manifest."""
    target = variable("MODEL_SOURCE", TARGETS[0])
    if target not in TARGETS:
        raise ConfigError(f"MODEL_SOURCE={target!r}: this project takes {' or '.join(TARGETS)}")
    source = Source(_commit(), manifest.load_model(chosen.model), target)
    made = build(open_cloud(chosen.env), variable("IMAGE_REPOSITORY"), source)
    made.save(chosen.manifest)
    return made.model_dump()


def _monitoring(chosen: argparse.Namespace) -> Any:
    """Build and push the image of the monitoring job, unless it is there, and print its name."""
    made = monitoring(open_cloud(chosen.env), variable("IMAGE_REPOSITORY"), _commit())
    return {"monitoring_image": made}


def _deploy(chosen: argparse.Namespace) -> Any:
    """Take a manifest to 100 %, or back to what served before."""
    plan = config.load("release", Plan)
    if chosen.env == "staging":
        plan = plan.model_copy(update={"canary": []})
    return {"serves": Program(open_cloud(chosen.env), plan).release(manifest.load(chosen.manifest))}


def _rollback(chosen: argparse.Namespace) -> Any:
    """Give all traffic back to an earlier release."""
    program = Program(open_cloud(chosen.env), config.load("release", Plan))
    return {"serves": program.rollback(chosen.reason, chosen.to)}


def _status(chosen: argparse.Namespace) -> Any:
    """Say what serves, who is releasing, and what happened."""
    cloud = open_cloud(chosen.env)
    lock = journal.holder(cloud)
    return {
        "traffic": cloud.traffic(),
        "lock": asdict(lock) if lock else None,
        "journal": [asdict(event) for event in journal.events(cloud)],
    }


def _unlock(chosen: argparse.Namespace) -> Any:
    """Put back what a killed release left, and free its lock."""
    program = Program(open_cloud(chosen.env), config.load("release", Plan))
    return {"unlocked": program.unlock() or "nothing"}


def _try(chosen: argparse.Namespace) -> Any:
    """Run an image here, read-only and with limits, ask it, and stop it."""
    trial(chosen.image, manifest.load_model(chosen.model))
    return {"answers": chosen.image}


COMMANDS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "try": _try,
    "bundle": _bundle,
    "build": _build,
    "monitoring": _monitoring,
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
    result = COMMANDS[chosen.command](chosen)
    print(json.dumps(result, indent=2))
    return 0


def command() -> NoReturn:
    """Run as the command that pyproject.toml installs."""
    run_command(main)


if __name__ == "__main__":
    command()
