"""The questions that copier.yml asks, for programs that answer them."""

from collections.abc import Iterable
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
