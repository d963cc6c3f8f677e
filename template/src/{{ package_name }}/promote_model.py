"""Move a model version between stages: none, then `staging`, then `production`."""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table

from . import registry, tracking
from .config import GatesConfig
from .config import load as load_config
from .errors import GateError, RegistryError, run_command
from .settings import Settings
from .settings import load as load_settings


def failures(metrics: dict[str, float], gates: GatesConfig) -> list[str]:
    """Return what the holdout's metrics fail; a metric that is absent or not a number fails."""
    problems = []
    for name, bound in gates.holdout.items():
        value = metrics.get(f"holdout/{name}")
        if value is None:
            problems.append(f"holdout {name} was not logged")
        elif bound.min is not None and not value >= bound.min:
            problems.append(f"holdout {name} is {value:.4f}, at least {bound.min:g} is needed")
        elif bound.max is not None and not value <= bound.max:
            problems.append(f"holdout {name} is {value:.4f}, at most {bound.max:g} is allowed")
    return problems


def candidate(client: MlflowClient, name: str, stage: str, number: str | None) -> registry.Version:
    """Return the version to promote: the one named, else the newest, else the one in staging."""
    if number is not None:
        return registry.version(client, name, number)
    if stage == "production":
        return registry.resolve(client, name, "staging")
    found = registry.versions(client, name)
    if not found:
        raise RegistryError(f"model {name!r} has no version yet; run `make run` first")
    return found[0]


def promote(settings: Settings, stage: str, number: str | None) -> dict[str, Any]:
    """Point an alias at a version that passes the gates.

    Raises
    ------
    GateError
        The version misses a bound in configs/gates.yaml.
    RegistryError
        There is no such version, or production is asked for one that is not in staging.
    """
    gates = load_config("gates", GatesConfig)
    client = tracking.connect(settings)
    with tracking.explained(settings.mlflow_tracking_uri):
        version = candidate(client, settings.model_name, stage, number)
        current = registry.aliases(client, settings.model_name)
        if stage == "production" and current.get("staging") != version.number:
            raise RegistryError(
                f"version {version.number} is not in staging; promote it there first"
            )
        problems = failures(client.get_run(version.run_id).data.metrics, gates)
        if problems:
            raise GateError(
                f"version {version.number} stays out of {stage}: {'; '.join(problems)} "
                "(bounds: configs/gates.yaml)"
            )
        client.set_registered_model_alias(settings.model_name, stage, version.number)
    return {
        "model": settings.model_name,
        "stage": stage,
        "version": version.number,
        "previous": current.get(stage),
    }


def status(settings: Settings) -> dict[str, Any]:
    """Return the model's versions, newest first, each with its stages."""
    client = tracking.connect(settings)
    with tracking.explained(settings.mlflow_tracking_uri):
        held = registry.aliases(client, settings.model_name)
        found = registry.versions(client, settings.model_name)
    rows = [
        {
            "version": version.number,
            "stages": sorted(alias for alias, number in held.items() if number == version.number),
            "created": datetime.fromtimestamp(version.created_ms / 1000, UTC).isoformat(
                "T", "seconds"
            ),
            "run_id": version.run_id,
            "sha256": version.digest,
        }
        for version in found
    ]
    return {"model": settings.model_name, "stages": held, "versions": rows}


def show_status(result: dict[str, Any], console: Console) -> None:
    """Print the versions as a table."""
    if not result["versions"]:
        console.print(f"{result['model']} has no version yet; run `make run` first")
        return
    table = Table("version", "stage", "created", "run", title=result["model"], box=None)
    for row in result["versions"]:
        table.add_row(
            row["version"], ", ".join(row["stages"]) or "none", row["created"], row["run_id"]
        )
    console.print(table, highlight=False)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="promote_model", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("status", "list the versions and where each stands"),
        ("promote", "move a version to a stage"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="print JSON")
        if name == "promote":
            command.add_argument("--to", choices=registry.STAGES, required=True, help="the stage")
            command.add_argument("--version", help="default: the newest, or the one in staging")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    chosen = parse(arguments)
    settings = load_settings()
    console = Console()
    if chosen.command == "status":
        result = status(settings)
    else:
        result = promote(settings, chosen.to, chosen.version)
    if chosen.json:
        print(json.dumps(result, indent=2))
    elif chosen.command == "status":
        show_status(result, console)
    else:
        before = f", was version {result['previous']}" if result["previous"] else ""
        console.print(f"{result['stage']}: {result['model']} version {result['version']}{before}")
    return 0


if __name__ == "__main__":
    run_command(main)
