"""How often drift reports alarm without reason, and what they see: ours, Evidently, K-S and PSI.

Usage: python tests/benchmarks/drift.py PROJECT [SEEDS] [PEER_SEEDS]

PROJECT is a rendered project. Run this with an environment of its own that has the project's
numpy, scipy, pydantic and pydantic-settings, and `evidently==0.7.23` with `pandas<3`, on which
alone it imports. SEEDS (default 200) counts reports per row of the tables, PEER_SEEDS those of the
peers at 50,000 rows, where they are slow.

Every report has 30 columns, 15 numbers and 15 categories, five of them with missing values, over
60 days of reference and 14 of the window. A false alarm is any alarm on data without drift. A
detection is an alarm that names the changed column. Evidently's tests are called column by column,
as its report does; first a few decisions are compared with its `Report`.
"""

import importlib
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import registry
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset
from numpy.typing import NDArray
from scipy import signal, stats

Columns = dict[str, NDArray[Any]]
HALF = 15
NAMES = [f"n{j}" for j in range(HALF)] + [f"c{j}" for j in range(HALF)]
KINDS = {name: "number" if name[0] == "n" else "category" for name in NAMES}
SIZES = (500, 5_000, 50_000)
UNEQUAL = ((5_000, 500), (500, 5_000), (50_000, 500), (500, 50_000))
LETTERS = np.array([f"v{k}" for k in range(20)], object)


def project(root: Path) -> tuple[Any, Any, Any]:
    """Import the rendered project's profile, drift checks, and configuration."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    package = tomllib.loads(text)["project"]["entry-points"]["pipelines"]["run"].split(".")[0]
    sys.path.insert(0, str(root / "src"))
    modules = [importlib.import_module(f"{package}.{m}") for m in
               ("monitoring.profile", "monitoring.drift", "config")]  # fmt: skip
    return modules[0], modules[1], modules[2].load("drift", modules[2].DriftConfig)


# --- data -----------------------------------------------------------------------------------------


def independent(rng: np.random.Generator, rows: int, _days: int) -> NDArray[np.float64]:
    return rng.normal(size=rows)


def autocorrelated(rng: np.random.Generator, rows: int, _days: int) -> NDArray[np.float64]:
    """Rows that resemble the row before (AR(1), 0.9)."""
    noise = rng.normal(size=rows + 200) * np.sqrt(1 - 0.9**2)
    return signal.lfilter([1], [1, -0.9], noise)[200:]


def by_day(rng: np.random.Generator, rows: int, days: int) -> NDArray[np.float64]:
    """Rows of one day that share a tenth of their variance."""
    shared = rng.normal(size=days)[np.arange(rows) * days // rows]
    return np.sqrt(0.1) * shared + np.sqrt(0.9) * rng.normal(size=rows)


def draw(rng: np.random.Generator, rows: int, days: int, latent: Callable[..., Any]) -> Columns:
    """Draw 30 columns: normal, skewed, rounded; categories of 3 to 20 values; some missing."""
    z = [latent(rng, rows, days) for _ in NAMES]
    z[3] = 0.6 * z[1] + 0.8 * z[3]  # what swapping n1 and n2 breaks
    columns: Columns = {}
    for j in range(HALF):
        values = z[j]
        if j % 5 == 4:
            values = np.exp(values)
        if j % 5 == 0 and j:
            values = np.round(values * 2)
        columns[f"n{j}"] = values
    for j in range(HALF):
        width = 3 + j * 17 // (HALF - 1)
        weights = np.arange(width, 0, -1.0)
        cuts = stats.norm.ppf(np.cumsum(weights / weights.sum())[:-1])
        columns[f"c{j}"] = LETTERS[np.searchsorted(cuts, z[HALF + j])]
    for name in ("n6", "n7", "n8", "c6", "c7"):
        gone = rng.random(rows) < 0.05
        columns[name] = np.where(gone, np.nan if name[0] == "n" else None, columns[name])
    return columns


def dates(rows: int, days: int, first: str) -> NDArray[np.datetime64]:
    return np.datetime64(first) + np.arange(rows) * days // rows


def _some(rng: np.random.Generator, rows: int, share: float) -> NDArray[np.bool_]:
    return rng.random(rows) < share


SCENARIOS: dict[str, tuple[str, Callable[[Columns, np.random.Generator], Columns]]] = {
    "mean + 0.2 sd": ("n1", lambda d, _: {"n1": d["n1"] + 0.2}),
    "spread x 1.2": ("n1", lambda d, _: {"n1": d["n1"] * 1.2}),
    "shape, same mean and variance": ("n1", lambda d, r: {
        "n1": 0.6 * d["n1"] + 0.8 * np.where(_some(r, len(d["n1"]), 0.5), 1, -1)}),
    "heavy tail, same variance": ("n1", lambda d, r: {
        "n1": r.standard_t(3, len(d["n1"])) / np.sqrt(3)}),
    "gradual, 0 to 0.5 sd": ("n1", lambda d, _: {
        "n1": d["n1"] + np.linspace(0, 0.5, len(d["n1"]))}),
    "2 % of rows x 10": ("n4", lambda d, r: {
        "n4": d["n4"] * np.where(_some(r, len(d["n4"]), 0.02), 10, 1)}),
    "another unit, x 2.54": ("n4", lambda d, _: {"n4": d["n4"] * 2.54}),
    "stuck at a constant": ("n1", lambda d, _: {"n1": np.full(len(d["n1"]), d["n1"][0])}),
    "6 % of rows change category": ("c5", lambda d, r: {
        "c5": np.where(_some(r, len(d["c5"]), 0.06), LETTERS[5], d["c5"])}),
    "new category, 2 %": ("c5", lambda d, r: {
        "c5": np.where(_some(r, len(d["c5"]), 0.02), "new", d["c5"])}),
    "missing 5 % → 10 %": ("n6", lambda d, r: {
        "n6": np.where(_some(r, len(d["n6"]), 0.053), np.nan, d["n6"])}),
    "two columns swapped": ("*", lambda d, _: {"n1": d["n2"], "n2": d["n1"]}),
    "harmless: mean + 0.02 sd": ("n1", lambda d, _: {"n1": d["n1"] + 0.02}),
}  # fmt: skip


# --- deciding -------------------------------------------------------------------------------------


def _evidently(old: pd.Series, new: pd.Series, name: str, test: str | None, level: float) -> bool:
    kind = ColumnType.Numerical if name[0] == "n" else ColumnType.Categorical
    found = registry.get_stattest(old, new, kind, test)
    return bool(found(old, new, kind, level or None).drifted)


def evidently_default(old: pd.Series, new: pd.Series, name: str) -> bool:
    return _evidently(old, new, name, None, 0)


def evidently_psi(old: pd.Series, new: pd.Series, name: str) -> bool:
    return _evidently(old, new, name, "psi", 0.2)


def evidently_strict(old: pd.Series, new: pd.Series, name: str) -> bool:
    return _evidently(old, new, name, "ks" if name[0] == "n" else "chisquare", 0.05 / len(NAMES))


def plain(old: pd.Series, new: pd.Series, name: str) -> bool:
    if name[0] == "n":
        return bool(stats.ks_2samp(old, new, method="asymp").pvalue < 0.05)
    table = pd.concat([old.value_counts(), new.value_counts()], axis=1).fillna(0).to_numpy()
    return bool(stats.chi2_contingency(table).pvalue < 0.05)


def psi(old: pd.Series, new: pd.Series, name: str) -> bool:
    if name[0] == "n":
        edges = np.unique(np.quantile(old, np.arange(0.1, 1, 0.1)))
        counts = [np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1)
                  for x in (old, new)]  # fmt: skip
    else:
        joined = pd.concat([old.value_counts(), new.value_counts()], axis=1).fillna(0)
        counts = list(joined.to_numpy().T)
    p, q = (np.maximum(c / c.sum(), 1e-4) for c in counts)
    return bool(((q - p) * np.log(q / p)).sum() >= 0.2)


PEERS = {
    "Evidently, defaults": evidently_default,
    "Evidently, PSI 0.2": evidently_psi,
    "Evidently, K-S and chi² at 0.05/30": evidently_strict,
    "K-S and chi² at 0.05": plain,
    "PSI 0.2": psi,
}


def _flags(peer: Callable[..., bool], old: Columns, new: Columns, names: list[str]) -> list[bool]:
    def clean(values: NDArray[Any]) -> pd.Series:
        return pd.Series(values).replace([np.inf, -np.inf], np.nan).dropna()

    return [peer(clean(old[name]), clean(new[name]), name) for name in names]


def agree(seeds: int = 3) -> bool:
    """Tell whether the tests called by column decide as Evidently's report does."""
    for rows in (500, 5_000):
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            old, new = (draw(rng, rows, 60, independent) for _ in range(2))
            new |= SCENARIOS["another unit, x 2.54"][1](new, rng)
            shape = DataDefinition(numerical_columns=NAMES[:HALF], categorical_columns=NAMES[HALF:])
            sets = [Dataset.from_pandas(pd.DataFrame(d), data_definition=shape) for d in (new, old)]
            result = Report([DataDriftPreset()]).run(*sets).dict()["metrics"]
            told = {m["config"]["column"]: m for m in result if "column" in m.get("config", {})}
            mine = dict(zip(NAMES, _flags(evidently_default, old, new, NAMES), strict=True))
            for name in NAMES:
                score, level = float(told[name]["value"]), told[name]["config"]["threshold"]
                by_p = "p_value" in told[name]["config"]["method"]
                if (score < level if by_p else score >= level) != mine[name]:
                    return False
    return True


def one(  # noqa: PLR0913, PLR0917 - pickled for another process, argument by argument
        root: Path, n: int, m: int, latent: Callable[..., Any], seed: int, peers: bool,
        changed: bool) -> dict[tuple[str, str], bool]:  # fmt: skip
    """Decide about one pair of windows: without drift, and in every scenario."""
    profile, drift, config = project(root)
    rng = np.random.default_rng([n, m, seed])
    old, new = draw(rng, n, 60, latent), draw(rng, m, 14, latent)
    times = dates(m, 14, "2026-03-02")
    reference = profile.build(old, old["n1"], dates(n, 60, "2026-01-01"), kinds=KINDS)
    current = profile.empty_like(reference).add(new, new["n1"], times)
    found = drift.compare(reference, current, config)
    decided = {("ours", "none"): any(f.alarm for f in found)}
    if peers:
        for name, peer in PEERS.items():
            decided[name, "none"] = any(_flags(peer, old, new, NAMES))
    for label, (column, change) in SCENARIOS.items() if changed else ():
        altered = change(new, rng)
        if column == "*":
            window = profile.empty_like(reference).add({**new, **altered}, new["n1"], times)
        else:  # only this column is counted again; how columns move together stays as it was
            part = {column: reference.columns[column].empty()}
            alone = current.model_copy(update={"columns": part, "moments": [], "prediction": None})
            counted = alone.add(altered, None, times).columns
            window = current.model_copy(update={"columns": {**current.columns, **counted}})
        found = drift.compare(reference, window, config)
        decided["ours", label] = any(f.alarm and f.column == column for f in found)
        if peers:
            for name, peer in PEERS.items():
                decided[name, label] = any(_flags(peer, old, {**new, **altered}, sorted(altered)))
    return decided


def rates(  # noqa: PLR0913, PLR0917
        root: Path, n: int, m: int, latent: Callable[..., Any], seeds: int, peer_seeds: int,
          changed: bool, pool: ProcessPoolExecutor) -> dict[tuple[str, str], float]:  # fmt: skip
    """Return how often each method alarmed."""
    work = [pool.submit(one, root, n, m, latent, s, s < peer_seeds, changed) for s in range(seeds)]
    decided = [each.result() for each in work]
    return {key: float(np.mean([d[key] for d in decided if key in d])) for key in decided[0]}


def table(root: Path, seeds: int, peer_seeds: int) -> Iterator[str]:
    """Yield the tables' lines, in Markdown."""
    methods = ["ours", *PEERS]
    head = ["| rows | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]

    def line(label: str, found: dict[tuple[str, str], float], scenario: str) -> str:
        return f"| {label} | " + " | ".join(f"{found[m, scenario]:.1%}" for m in methods) + " |"

    with ProcessPoolExecutor(2) as pool:
        measure = partial(rates, root, pool=pool)
        equal = {}
        yield "False alarms per report\n"
        yield from head
        for size in SIZES:
            few = peer_seeds if size == SIZES[-1] else seeds
            equal[size] = measure(size, size, independent, seeds, few, changed=True)
            yield line(f"{size:,} and {size:,}", equal[size], "none")
        for n, m in UNEQUAL:
            found = measure(n, m, independent, seeds, min(seeds, peer_seeds), changed=False)
            yield line(f"{n:,} and {m:,}", found, "none")
        for latent, label in ((autocorrelated, "rows like the last"), (by_day, "days that differ")):
            for size in SIZES:
                few = min(seeds, peer_seeds)
                found = measure(size, size, latent, seeds, few, changed=False)
                yield line(f"{size:,}, {label}", found, "none")
        for size in SIZES:
            yield f"\nDetected at {size:,} and {size:,} rows\n"
            yield from head
            yield from (line(label, equal[size], label) for label in SCENARIOS)


def main() -> None:
    """Print the tables for the project named on the command line."""
    if len(sys.argv) not in {2, 3, 4}:
        raise SystemExit(__doc__)
    counts = [int(word) for word in sys.argv[2:]]
    seeds = counts[0] if counts else 200
    peer_seeds = counts[1] if counts[1:] else seeds
    print(f"Evidently by column decides as its report: {agree()}\n", flush=True)
    for line in table(Path(sys.argv[1]).resolve(), seeds, peer_seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
