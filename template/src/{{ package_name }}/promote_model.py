"""Move model versions between stages: none, then `staging`, then `production`, and back."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from . import hooks, registry, tracking
from .errors import GateError, run_command
from .lifecycle import open_store
from .promotion import COMMANDS
from .promotion_output import SHOW, terminal
from .settings import load as load_settings


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="promote_model", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        text = str(function.__doc__).splitlines()[0]
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="print JSON")
        _add_options(name, command)
    chosen = parser.parse_args(arguments)
    if _both(chosen) and (chosen.json or chosen.expect or chosen.dry_run):
        parser.error("--json, --expect and --dry-run are about one stage: add --to")
    return chosen


def _add_options(name: str, command: argparse.ArgumentParser) -> None:
    if name == "history":
        command.add_argument("--at", type=_moment, metavar="DATE", help="who was where, in UTC")
    if name in {"evaluate", "promote"}:
        text = "number or stage; default: the newest, or for production the one in staging"
        command.add_argument("--version", help=text)
        command.add_argument(
            "--new-holdout", action="store_true", help="judge on, and freeze, the version's own"
        )
    if name == "promote":
        command.add_argument("--to", choices=registry.STAGES, help="default: both, in turn")
        command.add_argument("--expect", metavar="V", help="only if the stage is at V, or none")
        command.add_argument("--sha256", help="only if these are the version's files")
    if name == "rollback":
        command.add_argument("--to", metavar="N", help="default: the last good version")
    if name in {"promote", "rollback"}:
        command.add_argument("--reason", default="", help="why, for the journal")
    if name in {"promote", "rollback", "break-lock"}:
        command.add_argument("--dry-run", action="store_true", help="say what would be done")


def _moment(text: str) -> datetime:
    """Read a day, meaning its end, or a time; both in UTC unless they say otherwise."""
    found = datetime.fromisoformat(text)
    if len(text) == len("2026-01-31"):
        found += timedelta(days=1, milliseconds=-1)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _both(chosen: argparse.Namespace) -> bool:
    return chosen.command == "promote" and not chosen.to


def steps(chosen: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """Yield what was chosen, a stage at a time."""
    for stage in registry.STAGES if _both(chosen) else [getattr(chosen, "to", None)]:
        yield argparse.Namespace(**vars(chosen) | {"to": stage})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 3 if gates refuse, 4 on a conflict."""
    chosen = parse(arguments)
    settings = load_settings()
    with tracking.explained(settings.mlflow_tracking_uri):
        store = open_store(settings)
    for step in steps(chosen):
        with tracking.explained(settings.mlflow_tracking_uri):
            result = COMMANDS[chosen.command](store, step)
        if chosen.json:
            print(json.dumps(result, indent=2))
        else:
            SHOW[chosen.command](result, terminal())
        if result.get("moved"):
            with redirect_stdout(sys.stderr):  # the output is the result's, for jq to read
                hooks.after_move(result["stage"], result["version"])
    return GateError.exit_code if result.get("passed") is False else 0


def command() -> NoReturn:
    """Run as the command that pyproject.toml installs."""
    run_command(main)


if __name__ == "__main__":
    command()
