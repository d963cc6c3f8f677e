"""How often would the improvement gate promote by mistake, and how often does it see a real gain?

Usage: python tests/benchmarks/false_promotion.py PROJECT [SEEDS [REFITS]]

PROJECT is a rendered, installed project; run this with its interpreter. Its own model is fitted
and its own gate judges, on its own holdout. Three experiments, each over SEEDS
(default 300; "refitted" over REFITS pairs, default 200):

- "exchanged": candidate and champion swap their predictions day by day at random, so that neither
  is better, whatever the two models are. The gate at min_improvement = 0 has to keep its level.
- "refitted": both models are fitted on independent bootstrap samples of the training rows, with
  the same hyperparameters: as good as each other on average, as retraining on noise would be. In
  a single pair one of the two is better, if by chance, so the gate is also shown a random half of
  the days, and "and no better elsewhere" counts what it promoted in error by the other half.
- "effect": the champion's predictions are shrunk towards their mean, or noise is added, until
  the candidate is better by a stated share of the loss on all rows; a seed draws which days the
  gate gets to see.
"""

import importlib
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Values = NDArray[np.float64]
EFFECTS = (0.0, 0.005, 0.01, 0.02, 0.04)


@dataclass
class Case:
    """The losses of two models on the same rows, and the rows' days."""

    candidate: Values
    champion: Values
    days: Values


class Project:
    """The modules of the rendered project that decide."""

    def __init__(self, root: Path) -> None:
        settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        self.package = settings["project"]["entry-points"]["pipelines"]["run"].split(".")[0]
        self.comparison = self.module("comparison")
        self.gates = self.module("config").load("gates", self.module("config").GatesConfig)
        self.target = self.module("contract").TARGET.name
        data_config = self.module("config").load("data", self.module("config").DataConfig)
        rows = self.module("data").load(root / data_config.path)
        self.splits = self.module("preprocess").split(rows, data_config)

    def module(self, name: str) -> Any:
        """Import one of the project's modules."""
        return importlib.import_module(f"{self.package}.{name}")

    def fit(self, rows: pd.DataFrame, seed: int) -> Values:
        """Fit on rows and return the predictions for the holdout."""
        model_module = self.module("model")
        config = self.module("config").load("model", model_module.ModelConfig)
        config = config.model_copy(update={"seed": seed})
        with tempfile.TemporaryDirectory() as checkpoint:  # of this fit alone
            progress = self.module("progress").TrainingProgress(Path(checkpoint))
            model = self.module("train").train(rows, self.splits.validation, config, progress)
        features = self.module("frames").model_frame(self.splits.holdout)
        predicted: Values = model_module.predict(model, features)
        return predicted

    def losses(self, predicted: Values) -> Values:
        """Return the loss of each holdout row."""
        target = self.splits.holdout[self.target].to_numpy(np.float64)
        losses: Values = self.module("evaluate").losses(target, predicted)
        return losses

    @staticmethod
    def halves(case: Case, seed: int) -> tuple[Case, Case]:
        """Divide a case at random into two with half of the days each."""
        kinds, day = np.unique(case.days, return_inverse=True)
        chosen = np.random.default_rng(seed).permutation(len(kinds))[day] < len(kinds) // 2
        parts = [
            Case(case.candidate[rows], case.champion[rows], case.days[rows])
            for rows in (chosen, ~chosen)
        ]
        return parts[0], parts[1]

    def promotes(self, case: Case, seed: int, **changes: float) -> bool:
        """Ask the gate."""
        config = self.gates.comparison.model_copy(update={"seed": seed, **changes})
        found = self.comparison.improvement(case.candidate, case.champion, case.days, config)
        return bool(found.low > config.min_improvement)


def exchanged(project: Project, pair: tuple[Values, Values], days: Values) -> Callable[[int], Case]:
    """Return a maker of cases in which two models trade places on random days."""
    first, second = (project.losses(predicted) for predicted in pair)
    _, day = np.unique(days, return_inverse=True)

    def draw(seed: int) -> Case:
        swap = np.random.default_rng(seed).random(day.max() + 1) < 0.5
        mine = np.where(swap[day], first, second)
        return Case(mine, first + second - mine, days)

    return draw


def some_days(case: Case, seed: int) -> Case:
    """Draw as many days as there are, with replacement, as if the season had gone otherwise."""
    kinds, day = np.unique(case.days, return_inverse=True)
    drawn = np.random.default_rng(seed).integers(len(kinds), size=len(kinds))
    rows = [np.flatnonzero(day == each) for each in drawn]
    labels = np.repeat(np.arange(len(drawn)), [len(each) for each in rows])
    chosen = np.concatenate(rows)
    return Case(case.candidate[chosen], case.champion[chosen], labels.astype(float))


def weakened(project: Project, candidate: Values, share: float) -> Values:
    """Return predictions whose mean loss is higher than the candidate's by a share of their own."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(candidate.size) * candidate.std()
    wanted = project.losses(candidate).mean() / (1 - share)
    low, high = 0.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        loss = project.losses(_noisy(candidate, noise * middle)).mean()
        low, high = (middle, high) if loss < wanted else (low, middle)
    return _noisy(candidate, noise * high)


def _noisy(candidate: Values, noise: Values) -> Values:
    probabilities = candidate.min() >= 0 and candidate.max() <= 1
    if not probabilities:
        return candidate + noise
    odds = np.log(candidate / (1 - candidate)) + noise / (candidate.std() + 1e-12)
    return 1 / (1 + np.exp(-odds))


def always(_seed: int) -> bool:
    """Count every promotion."""
    return True


def rates(
    project: Project,
    draw: Callable[[int], Case],
    seeds: int,
    counts: Callable[[int], bool] = always,
) -> tuple[float, float]:
    """Return how often the gate promotes: as configured, and without a minimum improvement."""
    configured = bare = 0
    for seed in range(seeds):
        if counts(seed):
            case = draw(seed)
            configured += project.promotes(case, seed)
            bare += project.promotes(case, seed, min_improvement=0.0)
    return configured / seeds, bare / seeds


def table(project: Project, seeds: int, refits: int) -> Iterator[str]:
    """Yield the lines of the table, in Markdown."""
    days = project.splits.holdout["date"].to_numpy().astype("datetime64[D]").astype(float)
    train = project.splits.train
    samples = (train.sample(frac=1, replace=True, random_state=seed) for seed in range(refits * 2))
    fitted = [project.fit(sample.sort_index(), seed) for seed, sample in enumerate(samples)]
    comparison = project.gates.comparison
    yield f"| experiment | seeds | promoted at {comparison.min_improvement:.1%} | promoted at 0 |"
    yield "|---|---|---|---|"
    yield _line("exchanged", project, exchanged(project, (fitted[0], fitted[1]), days), seeds)
    pairs = list(zip(fitted[::2], fitted[1::2], strict=True))

    def refitted(seed: int) -> Case:
        losses = [project.losses(predicted) for predicted in pairs[seed]]
        return Case(losses[0], losses[1], days)

    def seen(seed: int) -> Case:
        return project.halves(refitted(seed), seed)[0]

    def no_better_elsewhere(seed: int) -> bool:
        elsewhere = project.halves(refitted(seed), seed)[1]
        return bool(elsewhere.candidate.mean() >= elsewhere.champion.mean())

    yield _line("refitted", project, refitted, len(pairs))
    yield _line("refitted, on half the days", project, seen, len(pairs))
    yield _line("and no better elsewhere", project, seen, len(pairs), no_better_elsewhere)
    candidate = project.fit(train, 0)
    for share in EFFECTS:
        champion = weakened(project, candidate, share) if share else candidate
        case = Case(project.losses(candidate), project.losses(champion), days)
        label = f"effect {share:.1%}"
        yield _line(label, project, lambda seed, case=case: some_days(case, seed), seeds)


def _line(
    label: str,
    project: Project,
    draw: Callable[[int], Case],
    seeds: int,
    counts: Callable[[int], bool] = always,
) -> str:
    configured, bare = rates(project, draw, seeds, counts)
    return f"| {label} | {seeds} | {configured:.1%} | {bare:.1%} |"


def main() -> None:
    """Print the table for the project named on the command line."""
    if len(sys.argv) not in {2, 3, 4}:
        raise SystemExit(__doc__)
    project, seeds, refits = (*sys.argv[1:], *("300", "200")[len(sys.argv) - 2 :])
    for line in table(Project(Path(project).resolve()), int(seeds), refits=int(refits)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
