"""Compare what was served in a window with what the model was trained on, and write a report.

Exit codes: 0 nothing that matters, 1 error, 10 alarm, 11 too little data to judge.
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import evaluate, journal, registry, tracking
from ..config import DriftConfig
from ..config import load as load_config
from ..errors import ConfigError, run_command
from ..lifecycle import Store, open_store
from ..settings import ROOT, Settings
from ..settings import load as load_settings
from . import labels as labels_file
from . import page, performance, profile, reference, retraining
from . import report as reports
from .records import Reading, Window

UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    about = str(__doc__).splitlines()
    parser = argparse.ArgumentParser(prog="monitor_model", description=about[0], epilog=about[-1])
    add = parser.add_argument
    add("--log", help="a file, folder or s3://, gs:// address; default: PREDICTION_LOG")
    add("--since", type=moment, metavar="TIME", help="a day or time, UTC; default: see --last")
    add("--until", type=day_end, metavar="TIME", help="before it, a day included; default: now")
    add("--last", type=length, default="7d", metavar="7d", help="hours, days, weeks before --until")
    add("--labels", metavar="FILE", help="Parquet or CSV, or its address: request_id, row, target")
    add("--version", metavar="N", help="whose predictions; default: the version in MODEL_STAGE")
    add("--reference", type=Path, metavar="FILE", help="a profile; default: the one of the version")
    add("--out", type=Path, metavar="DIR", help="default: artifacts/monitoring/<version>-<day>")
    add("--request", action="store_true", help="journal the window, and ask if the rules say so")
    add("--json", action="store_true", help="print the report as JSON")
    add("--schema", action="store_true", help="print the JSON schema of a report, and do no more")
    return parser.parse_args(arguments)


def moment(text: str) -> datetime:
    """Read a time, or the beginning of a day, in UTC unless it says otherwise, as one in UTC."""
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def day_end(text: str) -> datetime:
    """Read a time, or the end of a day."""
    whole_day = timedelta(days=1) if len(text) == len("2026-01-31") else timedelta()
    return moment(text) + whole_day


def length(text: str) -> timedelta:
    """Read a length such as 36h, 7d or 4w."""
    found = re.fullmatch(r"([1-9]\d{0,3})([hdw])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as 36h, 7d or 4w")
    return int(found[1]) * UNITS[found[2]]


def monitor(store: Store, settings: Settings, chosen: argparse.Namespace) -> reports.Report:
    """Read, count, compare and judge one window."""
    config = load_config("drift", DriftConfig)
    find = registry.version if chosen.version else registry.resolve
    version = find(store.client, store.model, chosen.version or settings.model_stage)
    given = chosen.reference
    baseline = reference.read(given) if given else reference.fetch(store.client, version)
    until = chosen.until or datetime.now(UTC) - timedelta(days=settings.monitor_delay_days)
    window = Window(chosen.since or until - chosen.last, until, version.name, version.number)
    if window.since >= window.until:
        raise ConfigError(f"the window from {window.since} until {window.until} is empty")
    place = _place(settings, chosen.log)
    known = chosen.labels or settings.prediction_labels
    labels = labels_file.load(known) if known else None
    reading, counted = Reading(window), Counted(profile.empty_like(baseline))
    for batch in reading.batches(place):
        targets = labels.of(batch) if labels else np.full(len(batch.scores), np.nan)
        counted.add(batch.columns, batch.scores, batch.times, targets)
    judged, told = None, None
    if labels:
        labelled = counted.labelled(reading.rows)
        judged = performance.judge(evaluate.score, labelled, baseline.metrics, config)
        told = reports.Labels(place=known, usable=len(labels.targets), **labels.excluded)
    seen = reports.Evidence(reading, place, baseline, counted.profile, counted.days(), told, judged)
    return reports.make(seen, config)


class Counted:
    """A window, counted: its profile, its days, and the rows whose label has arrived."""

    def __init__(self, empty: profile.Profile) -> None:
        self.profile = empty
        self._days: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros(6))
        self._labelled: list[tuple[NDArray[Any], ...]] = []

    def add(
        self,
        columns: profile.Columns,
        scores: NDArray[np.float64],
        times: NDArray[np.datetime64],
        targets: NDArray[np.float64],
    ) -> None:
        """Count a batch in; `targets` are NaN where no label has arrived."""
        self.profile = self.profile.add(columns, scores, times)
        known, finite = np.isfinite(targets), np.isfinite(scores)
        both = known & finite
        self._labelled.append((targets[both], scores[both], times[both]))
        sums = [finite | True, finite, np.where(finite, scores, 0), both]
        sums += [np.where(both, targets, 0), np.where(both, scores, 0)]
        names, day = np.unique(times.astype("datetime64[D]"), return_inverse=True)
        table = np.stack([np.bincount(day, part, len(names)) for part in sums], axis=1)
        for name, row in zip(names.astype(str).tolist(), table, strict=True):
            self._days[name] += row

    def labelled(self, served: int) -> performance.Labelled:
        """Return the rows whose label has arrived, of so many served."""
        empty = (np.empty(0), np.empty(0), np.empty(0, "datetime64[ms]"))
        target, score, times = map(np.concatenate, zip(empty, *self._labelled, strict=True))
        return performance.Labelled(target, score, times, served)

    def days(self) -> list[reports.Day]:
        """Return the days in order."""
        return [
            reports.Day(
                day=name,
                rows=int(rows),
                score=score / finite if finite else None,
                labelled=int(both),
                observed=target / both if both else None,
                predicted=predicted / both if both else None,
            )
            for name, row in sorted(self._days.items())
            for rows, finite, score, both, target, predicted in [row.tolist()]
        ]


def _place(settings: Settings, given: str | None) -> str:
    place = given or settings.prediction_log
    if place in {"", "-"}:
        raise ConfigError(
            "there is no prediction log to read: set PREDICTION_LOG to the folder that the service "
            "writes to, or name one with --log"
        )
    return place if "://" in place else str(ROOT / place)


def write(report: reports.Report, folder: Path) -> None:
    """Write the report and its page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(page.render(report), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    chosen = parse(arguments)
    if chosen.schema:
        print(json.dumps(reports.Report.model_json_schema(), indent=2))
        return 0
    settings = load_settings()
    asks = chosen.request or settings.monitor_requests
    with tracking.explained(settings.mlflow_tracking_uri):
        store = open_store(settings, "monitoring", writes=asks)  # its account may only read
        report = monitor(store, settings, chosen)
        config = load_config("drift", DriftConfig)
        past = retraining.look_back(store, report, config.consecutive)
        request = retraining.decide(report, past, config, report.created)
        report = report.model_copy(update={"request": request})
        folder = chosen.out or ROOT / f"artifacts/monitoring/{report.version}-{report.until.date()}"
        write(report, folder)
        try:
            if asks:
                report = carry_out(store, report, folder, settings, past)
                write(report, folder)
        finally:  # a log may be all that is left of the report, if asking failed as well
            print(report.model_dump_json(indent=2) if chosen.json else page.text(report, folder))
    return report.exit_code


def carry_out(
    store: Store, report: reports.Report, folder: Path, settings: Settings, past: retraining.Past
) -> reports.Report:
    """Journal the window, and send the request unless something stands against it."""
    event = retraining.record(store, report, folder)
    request = report.request
    if request is None or request.event == "none" or request.blocked:
        return report
    location = journal.ci_url() or tracking.run_page(settings, store.experiment, event)
    refused = retraining.ask(store, report, past, location, settings)
    done = {"sent": not refused, "blocked": [refused] if refused else []}
    return report.model_copy(update={"request": request.model_copy(update=done)})


def command() -> NoReturn:
    """Run as the command that pyproject.toml installs."""
    run_command(main)


if __name__ == "__main__":
    command()
