"""The questions that copier.yml asks, for programs that answer them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, cycle, islice, product
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).parents[1]


class UnknownQuestionError(ValueError):
    """An answer to a question that is not asked; Copier would pass over it in silence."""


def asked(template: Path = TEMPLATE) -> dict[str, dict[str, Any]]:
    """Return the questions in order; what is computed (`when: false`) is none."""
    settings = yaml.safe_load((template / "copier.yml").read_text(encoding="utf-8"))
    return {
        name: question
        for name, question in settings.items()
        if not name.startswith("_") and question.get("when") is not False
    }


def choices(question: dict[str, Any]) -> list[Any]:
    """Return the values that a question offers, if it offers any."""
    offered = question.get("choices", [])
    return list(offered.values() if isinstance(offered, dict) else offered)


def refuse_unknown(names: Iterable[str], template: Path = TEMPLATE) -> None:
    """Raise UnknownQuestionError for the first name that is no question's."""
    known = asked(template)
    for name in names:
        if name not in known:
            raise UnknownQuestionError(
                f"there is no question {name!r}; the questions are {', '.join(known)}"
            )


def pairwise(offered: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
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


def each_once(offered: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return the fewest combinations that have each choice of each question."""
    most = max(map(len, offered.values()))
    turns = zip(*(islice(cycle(values), most) for values in offered.values()), strict=True)
    return [dict(zip(offered, values, strict=True)) for values in turns]


def _pairs(answers: dict[str, Any]) -> set[tuple[tuple[str, Any], ...]]:
    return set(combinations(answers.items(), 2))
