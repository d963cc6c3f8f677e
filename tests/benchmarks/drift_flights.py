"""Monitor the flights month by month: what features show, and what labels show.

Usage: python tests/benchmarks/drift_flights.py PROJECT RAW.parquet PICTURE.svg

PROJECT is a rendered, installed classification project; run this with its interpreter. RAW has the
columns of its sample: the sample itself, or all flights of the year. The model is fitted on January
to April, stopped by May, and held out on June; the reference profile is January to June.
"""

import importlib
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

METRIC = "roc_auc"


@dataclass
class Month:
    """What monitoring says of one month."""

    name: str
    rows: int
    late: float
    feature: str
    effect: float
    alarms: str
    metrics: dict[str, Any]
    state: str


def months(root: Path, raw: Path) -> Iterator[Month]:
    """Train on the first half of the year; yield June, the holdout, and every later month."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    package = tomllib.loads(text)["project"]["entry-points"]["pipelines"]["run"].split(".")[0]

    def module(name: str) -> Any:
        return importlib.import_module(f"{package}.{name}")

    profile, drift, performance = (
        module(f"monitoring.{name}") for name in ("profile", "drift", "performance")
    )
    config, evaluate = module("config"), module("evaluate")
    limits = config.load("drift", config.DriftConfig)
    rows = module("data").load(raw)
    month = rows["date"].dt.month
    settings = config.load("model", module("model").ModelConfig)
    bar = module("progress").TrainingProgress(Path("unused"))
    model = module("train").train(rows[month <= 4], rows[month == 5], settings, bar)
    frame = module("frames").model_frame(rows)
    rows["predicted"] = module("model").predict(model, frame)

    def counted(part: pd.Series) -> tuple[dict[str, Any], Any, Any]:
        columns = {name: frame.loc[part, name].to_numpy() for name in frame}
        return columns, rows.loc[part, "predicted"].to_numpy(), rows.loc[part, "date"].to_numpy()

    def labelled(part: pd.Series) -> Any:
        some = rows[part]
        target = some[module("contract").TARGET.name].to_numpy(np.float64)
        predicted, times = some["predicted"].to_numpy(), some["date"].to_numpy()
        return performance.Labelled(target, predicted, times, len(some))

    june = performance.judge(evaluate.score, labelled(month == 6), {}, limits)
    reference = profile.build(*counted(month <= 6)).model_copy(update={"metrics": june.metrics})
    for number in range(6, 13):
        part = month == number
        found = drift.compare(reference, profile.empty_like(reference).add(*counted(part)), limits)
        features = [f for f in found if f.check == "distribution"]
        worst = max(features, key=lambda f: f.effect)
        judged = performance.judge(evaluate.score, labelled(part), reference.metrics, limits)
        yield Month(
            name=f"{pd.Timestamp(2013, number, 1):%b}",
            rows=int(part.sum()),
            late=float(labelled(part).target.mean()),
            feature=worst.column,
            effect=worst.effect,
            alarms=", ".join(f"{f.column} ({f.check}, {f.effect:.1%})" for f in found if f.alarm),
            metrics=judged.metrics,
            state=judged.state,
        )


def draw(found: list[Month], floor: float, path: Path) -> None:
    """Draw features above, performance and the late rate below."""
    names = [month.name for month in found]
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.bar(names, [month.effect for month in found], color="#7a9cc6", width=0.55)
    for place, month in enumerate(found):
        upper.text(place, month.effect + 0.004, month.feature, ha="center", fontsize=8)
    upper.axhline(floor, color="#555", linestyle="--", linewidth=1, label="floor of an alarm")
    upper.legend(loc="upper left", fontsize=8, frameon=False)
    upper.set(
        title="Features: the one that moved most", ylabel="share of rows moved", ylim=(0, 0.15)
    )
    metric = [month.metrics[METRIC] for month in found]
    values = [each.value for each in metric]
    error = [[e.value - e.low for e in metric], [e.high - e.value for e in metric]]
    colours = ["#c0392b" if month.state == "worse" else "#2c7a4b" for month in found]
    lower.axhspan(
        metric[0].low, metric[0].high, color="#2c7a4b", alpha=0.12, label="holdout (June)"
    )
    lower.errorbar(names, values, yerr=error, fmt="none", ecolor="#888", capsize=3)
    lower.scatter(names, values, color=colours, zorder=3)
    lower.plot(
        names, [month.late for month in found], color="#d68910", marker="s", markersize=4,
        label="share of late flights",
    )  # fmt: skip
    lower.set(title="Labels: ROC AUC (red: alarm) and the share of late flights", ylim=(0, 0.85))
    lower.legend(loc="lower left", fontsize=8, ncols=2, frameon=False)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table and draw the picture."""
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    found = list(months(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()))
    print(
        "| month | flights | late | most moved feature | alarms on inputs "
        "| ROC AUC | normalized entropy | labels say |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for month in found:
        auc, loss = month.metrics[METRIC], month.metrics["normalized_entropy"]
        print(
            f"| {month.name} | {month.rows:,} | {month.late:.1%} "
            f"| {month.feature} {month.effect:.1%} | {month.alarms or 'none'} "
            f"| {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}) "
            f"| {loss.value:.3f} | {month.state} |"
        )
    draw(found, 0.05, Path(sys.argv[3]))


if __name__ == "__main__":
    main()
