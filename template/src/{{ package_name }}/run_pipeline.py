"""Run the pipeline: ingest, preprocess, train, evaluate, register; what is unchanged is skipped."""

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from . import config, hooks, stages, tracking
from .errors import ConfigError, DataError, run_command
from .model import ModelConfig
from .pipeline import NAMES, SPLITS, Pipeline
from .settings import load as load_settings


def run(pipeline: Pipeline, *, first: str, last: str, force: bool, console: Console) -> None:
    """Run what is out of date between two stages, under one MLflow run if a version will result."""
    with stages.exclusive(pipeline.root), ExitStack() as stack:
        planned = stages.plan(pipeline.stages(), pipeline.root, first=first, last=last, force=force)
        pipeline.marks = {stage.name: mark for stage, mark, _ in planned}
        if any(stage.name == "register" and stale for stage, _, stale in planned):
            pipeline.connect()
            stack.enter_context(tracking.open_run(pipeline.settings.mlflow_tracking_uri))
            if not any(stage.name == "train" and stale for stage, _, stale in planned):
                pipeline.log_history()
        for stage, mark, stale in planned:
            started = time.perf_counter()
            if stale:
                stages.execute(stage, mark, pipeline.root)
                hooks.after_stage(stage.name, pipeline.root / stage.name)
            took = f"{time.perf_counter() - started:5.1f} s" if stale else "unchanged"
            console.print(f"  {stage.name:<12}{took:>10}", highlight=False)


def show(pipeline: Pipeline, console: Console) -> None:
    """Print what came of it: the metrics, the version, and where to look next."""
    metrics = pipeline.metrics()
    table = Table("metric", *SPLITS, box=None, pad_edge=False, padding=(0, 2))
    for name in metrics["holdout"]:
        table.add_row(name, *(f"{metrics[split].get(name, float('nan')):.4f}" for split in SPLITS))
    console.print()
    console.print(table, highlight=False)
    version = pipeline.read("register/version.json")
    page = tracking.run_page(pipeline.settings, version["experiment_id"], version["run_id"])
    console.print(f"\nRegistered {version['name']} version {version['version']}", highlight=False)
    if note := version.get("note"):
        console.print(f"Served  natively, {note} (docs/serving.md)", highlight=False)
    console.print(f"Plots   {pipeline.root / 'evaluate'}", highlight=False, soft_wrap=True)
    console.print(f"Run     {page}", highlight=False, soft_wrap=True)
    console.print("Next    make promote", highlight=False)


def sweep(pipeline: Pipeline, hours: float, console: Console) -> None:
    """Close the runs that killed processes left open."""
    with stages.exclusive(pipeline.root), tracking.explained(pipeline.settings.mlflow_tracking_uri):
        client = tracking.connect(pipeline.settings)
        closed = tracking.sweep(client, pipeline.settings, hours)
    console.print(*closed, f"{len(closed)} left open by killed processes, now closed", sep="\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="run_pipeline.py", description=__doc__)
    parser.add_argument("stage", nargs="?", choices=NAMES, help="run this stage alone")
    parser.add_argument("--from", dest="first", choices=NAMES, help="begin at this stage")
    parser.add_argument("--to", dest="last", choices=NAMES, help="end after this stage")
    parser.add_argument("--force", action="store_true", help="run even what has not changed")
    parser.add_argument(
        "--sweep", nargs="?", type=float, const=float("inf"), metavar="HOURS",
        help="run nothing; close what killed runs of this checkout left open, or, with HOURS, of "
        "any machine if it began that long ago",
    )  # fmt: skip
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="override configs/SECTION.yaml for this run, such as model.seed=1",
    )  # fmt: skip
    chosen = parser.parse_args(arguments)
    if chosen.stage and (chosen.first or chosen.last):
        parser.error("name one stage, or give --from and --to, not both")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    chosen = parse(arguments)
    for override in chosen.overrides:
        section, _, _ = config.split_override(override)
        if section not in {"data", "model"}:
            raise ConfigError(f"--set {override}: the sections are data and model")
    pipeline = Pipeline(
        load_settings(),
        config.load("data", config.DataConfig, chosen.overrides),
        config.load("model", ModelConfig, chosen.overrides),
    )
    console = Console()
    if chosen.sweep is not None:
        sweep(pipeline, chosen.sweep, console)
        return 0
    if not pipeline.source.exists():
        raise DataError(f"{pipeline.source} does not exist; set `path` in configs/data.yaml")
    first = chosen.stage or chosen.first or NAMES[0]
    last = chosen.stage or chosen.last or NAMES[-1]
    run(pipeline, first=first, last=last, force=chosen.force, console=console)
    if last == NAMES[-1]:
        show(pipeline, console)
    else:
        console.print(f"Outputs {pipeline.root / last}", highlight=False, soft_wrap=True)
    return 0


def command() -> NoReturn:
    """Run as a command; pyproject.toml names this for pipelines/run_pipeline.py."""
    run_command(main)
