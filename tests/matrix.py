"""Every combination of answers, read off copier.yml so that a new choice joins by itself."""

from collections.abc import Mapping, Sequence
from itertools import combinations, cycle, product

from questions import asked, choices, refuse_unknown

Answers = dict[str, str]

CHOICES = {name: choices(question) for name, question in asked().items() if choices(question)}
DEFAULTS: Answers = {name: asked()[name]["default"] for name in CHOICES}
MATRIX = [dict(zip(CHOICES, values, strict=True)) for values in product(*CHOICES.values())]

# What is installed and run: each framework with each task, and the clouds and the places to record
# among them in turn, so that none costs a run of its own. The first has every default.
EXECUTED = [
    {**DEFAULTS, "task": task, "framework": framework, "cloud": cloud, "tracking": tracking}
    for (framework, task), cloud, tracking in zip(
        product(CHOICES["framework"], CHOICES["task"]),
        cycle(CHOICES["cloud"]),
        cycle(CHOICES["tracking"]),
        strict=False,
    )
]


def pairwise(offered: Mapping[str, Sequence[str]]) -> list[Answers]:
    """Return few combinations in which every two choices of two questions meet."""
    candidates = [dict(zip(offered, values, strict=True)) for values in product(*offered.values())]
    several = [answers for answers in candidates if _pairs(answers)]
    unmet = set().union(*map(_pairs, several)) if several else set()
    chosen = [] if several else candidates[:1]
    while unmet:
        best = max(several, key=lambda answers: len(_pairs(answers) & unmet))
        chosen.append(best)
        unmet -= _pairs(best)
    return chosen


def _pairs(answers: Answers) -> set[tuple[tuple[str, str], ...]]:
    return set(combinations(answers.items(), 2))


def label(answers: Answers) -> str:
    """Name a combination: its choices, in the order they are asked."""
    return "-".join(answers[name] for name in CHOICES)


def complete(answers: Answers) -> Answers:
    """Fill in the defaults of the choices; refuse what Copier would pass over in silence."""
    refuse_unknown(answers)
    for name, value in answers.items():
        if name in CHOICES and value not in CHOICES[name]:
            raise ValueError(f"{value!r} is no answer to {name}; they are {CHOICES[name]}")
    return {**DEFAULTS, **answers}
