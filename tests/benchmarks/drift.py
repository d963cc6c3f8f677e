"""How often drift reports alarm without reason, and what they see: ours, Evidently, K-S and PSI.

Usage: python tests/benchmarks/drift.py PROJECT RESULTS ours|peers|table [SEEDS] [SLOW_SEEDS] [CASE]

PROJECT is a rendered project. Run this with an environment of its own that has the project's
numpy, scipy, pydantic and pydantic-settings, and `evidently==0.7.23` with `pandas<3`, on which
alone it imports. "ours" and "peers" judge the same data, SEEDS times (200) in each case, or
SLOW_SEEDS times (10), ours where both windows have 50,000 rows and peers where one has, and append
each decision to a file in the folder RESULTS; a run that was stopped goes on where it was, and
scenarios that are new are added. CASE is how the rows of a table begin to which a run is confined,
such as "50,000 and 500,". "table" prints what is there.

Every report has 30 columns, 15 numbers and 15 categories, five of them with missing values, over
60 days of reference and 14 of the window. A false alarm is any alarm on data without drift. A
detection is an alarm that names the changed column. Evidently's tests are called column by column,
as its report does; first a few decisions are compared with its `Report`.
"""

import importlib
import json
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


ODD_DAY = "one day of 14 doubled"


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
    "cut off at 1 sd": ("n2", lambda d, _: {"n2": np.minimum(d["n2"], 1)}),
    # Looked at, but nothing was chosen by these.
    "a tenth of the rows is 0": ("n9", lambda d, r: {
        "n9": np.where(_some(r, len(d["n9"]), 0.1), 0, d["n9"])}),
    "two categories exchanged": ("c4", lambda d, _: {
        "c4": np.where(d["c4"] == "v0", "v2", np.where(d["c4"] == "v2", "v0", d["c4"]))}),
    ODD_DAY: ("n14", lambda d, _: {
        "n14": d["n14"] * np.where(np.arange(len(d["n14"])) * 14 // len(d["n14"]) == 9, 2, 1)}),
    # Written down when the checks were finished, and not looked at before.
    "lowest twentieth raised to a limit": ("n3", lambda d, _: {"n3": np.maximum(d["n3"], -1.645)}),
    "3 % of rows read 999": ("n7", lambda d, r: {
        "n7": np.where(_some(r, len(d["n7"]), 0.03), 999, d["n7"])}),
    "5 % of rows + 3 sd": ("n13", lambda d, r: {
        "n13": d["n13"] + 3 * _some(r, len(d["n13"]), 0.05)}),
    "skewed, same mean and variance": ("n12", lambda d, r: {
        "n12": (r.gamma(4, size=len(d["n12"])) - 4) / 2}),
    "rounded to whole numbers": ("n11", lambda d, _: {"n11": np.round(d["n11"])}),
    "one category read as another": ("c8", lambda d, _: {
        "c8": np.where(d["c8"] == "v3", "v0", d["c8"])}),
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


# --- measuring ------------------------------------------------------------------------------------

LATENTS = {"independent": independent, "rows like the last": autocorrelated,
           "days that differ": by_day}  # fmt: skip
ALARM, QUIET, NOT_JUDGED = "alarm", "quiet", "not judged"
Decisions = dict[str, dict[str, str]]  # by method and scenario


@dataclass(frozen=True)
class Case:
    """How many rows both windows have, and what they are like."""

    n: int
    m: int
    latent: str = "independent"

    @property
    def scenarios(self) -> dict[str, tuple[str, Callable[..., Columns]]]:
        """The changes to detect, where they are asked for."""
        return SCENARIOS if self.latent == "independent" and self.n == self.m else {}

    @property
    def label(self) -> str:
        """Its row in the tables."""
        return f"{self.n:,} and {self.m:,}, {self.latent}"

    def windows(self, seed: int) -> tuple[Columns, Columns, dict[str, Columns]]:
        """Draw the reference, the window without drift, and what each scenario changes in it."""
        rng = np.random.default_rng([self.n, self.m, seed])
        old, new = (draw(rng, rows, days, LATENTS[self.latent])
                    for rows, days in ((self.n, 60), (self.m, 14)))  # fmt: skip
        return old, new, {k: change(new, rng) for k, (_, change) in self.scenarios.items()}


Decide = Callable[[Case, int, Sequence[str]], Decisions]
CASES = [Case(*sizes, latent)
         for pairs in (((500, 500),), ((5_000, 500), (500, 5_000), (5_000, 5_000)),
                       ((50_000, 500), (500, 50_000), (50_000, 50_000)))
         for latent in LATENTS
         for sizes in pairs
         if max(sizes) < SIZES[-1] or sizes[0] == sizes[1] or latent == "independent"]  # fmt: skip


def ours(root: Path) -> Decide:
    """Return what judges by the project's own checks.

    Where one column changed, only that one is checked again: nothing else of the report differs
    but what `adjust` makes of the p-values together.
    """
    profile, drift, config = project(root)
    rate = config.false_alarms

    def alarms(found: list[Any]) -> set[str]:
        q_values = drift.adjust(np.array([f.p for f in found]))
        return {f.column for f, q in zip(found, q_values, strict=True)
                if q <= rate and f.effect >= f.floor}  # fmt: skip

    def only(whole: Any, column: Any) -> Any:
        part = {"columns": column, "moments": [], "prediction": None}
        return whole.model_copy(update=part)

    def decide(case: Case, seed: int, lacking: Sequence[str]) -> Decisions:
        old, new, changes = case.windows(seed)
        times = dates(case.m, 14, "2026-03-02")
        reference = profile.build(old, old["n1"], dates(case.n, 60, "2026-01-01"), kinds=KINDS)
        empty = profile.empty_like(reference)
        current = empty.add(new, new["n1"], times)
        if drift.insufficient(reference, current, config):
            return {"ours": dict.fromkeys(lacking, NOT_JUDGED)}
        found = drift.compare(reference, current, config)
        decided = {"none": ALARM if any(f.alarm for f in found) else QUIET}
        for label, altered in changes.items():
            column = SCENARIOS[label][0]
            if column == "*" or label == ODD_DAY:
                window = empty.add({**new, **altered}, new["n1"], times)
                named = alarms(drift.compare(reference, window, config))
            else:
                past = only(reference, {column: reference.columns[column]})
                now = only(empty, {column: empty.columns[column]}).add(altered, None, times)
                again = [f for f in drift.compare(past, now, config) if f.check != "day"]
                named = alarms([*(f for f in found if f.column != column), *again])
            decided[label] = ALARM if column in named else QUIET
        return {"ours": {label: decided[label] for label in lacking}}

    return decide


def peers(case: Case, seed: int, lacking: Sequence[str]) -> Decisions:
    """Judge by every peer."""
    old, new, changes = case.windows(seed)
    asked = {"none": {name: new[name] for name in NAMES}, **changes}
    asked = {label: asked[label] for label in lacking}
    return {
        name: {
            label: ALARM if any(_flags(peer, old, altered, sorted(altered))) else QUIET
            for label, altered in asked.items()
        }
        for name, peer in PEERS.items()
    }


def measure(path: Path, decide: Decide, chosen: str, seeds: Callable[[Case], int]) -> None:
    """Append the decisions that the file lacks, case by case."""
    done: dict[tuple[str, int], set[str]] = defaultdict(set)
    for label, seed, decisions in _read(path):
        done[label, seed].update(*decisions.values())
    with path.open("a", encoding="utf-8") as file:
        for case in (case for case in CASES if case.label.startswith(chosen)):
            for seed in range(seeds(case)):
                wanted = ["none", *case.scenarios]
                lacking = [each for each in wanted if each not in done[case.label, seed]]
                if lacking:
                    file.write(json.dumps([case.label, seed, decide(case, seed, lacking)]) + "\n")
                    file.flush()


def _read(path: Path) -> list[tuple[str, int, Decisions]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(folder: Path) -> Iterator[str]:
    """Yield the tables' lines, in Markdown; behind a share the number of seeds."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for label, _, decisions in _read(folder / "ours.jsonl") + _read(folder / "peers.jsonl"):
        for method, by_scenario in decisions.items():
            for scenario, decision in by_scenario.items():
                found[label, scenario, method].append(decision)
    methods = ["ours", *PEERS]

    def line(title: str, *key: str) -> str:
        return f"| {title} | " + " | ".join(_cell(found[*key, m]) for m in methods) + " |"

    head = " | ".join(methods) + " |\n" + "|---" * (len(methods) + 1) + "|"
    yield f"| false alarms per report | {head}"
    yield from (line(case.label, case.label, "none") for case in CASES)
    for case in CASES:
        if case.scenarios:
            yield f"\n| detected at {case.n:,} and {case.m:,} rows | {head}"
            yield from (line(scenario, case.label, scenario) for scenario in case.scenarios)


def _cell(decided: list[str]) -> str:
    if not decided:
        return ""
    share = f"{decided.count(ALARM) / len(decided):.1%} ({len(decided)})"
    unsaid = decided.count(NOT_JUDGED) / len(decided)
    return f"{share}, {unsaid:.0%} not judged" if unsaid else share


def main() -> None:
    """Do what the command line says."""
    if len(sys.argv) not in {4, 5, 6, 7} or sys.argv[3] not in {"ours", "peers", "table"}:
        raise SystemExit(__doc__)
    root, folder, what = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), sys.argv[3]
    given, chosen = [int(word) for word in sys.argv[4:6]], "".join(sys.argv[6:])
    seeds, slow = (*given, *(200, 10)[len(given) :])
    folder.mkdir(parents=True, exist_ok=True)
    if what == "table":
        print("\n".join(table(folder)))
        return
    if what == "peers":
        print(f"Evidently by column decides as its report: {agree()}", flush=True)
        measure(folder / "peers.jsonl", peers, chosen,
                lambda case: slow if max(case.n, case.m) == SIZES[-1] else seeds)  # fmt: skip
    else:
        measure(folder / "ours.jsonl", ours(root), chosen,
                lambda case: slow if min(case.n, case.m) == SIZES[-1] else seeds)  # fmt: skip


if __name__ == "__main__":
    main()
