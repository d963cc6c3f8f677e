"""Steps that look first: what is there already is left alone, and nothing is made unasked."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..release.command import attempt, run
from ..release.interface import CloudError


@dataclass(frozen=True)
class Step:
    """Something that must exist: how to see that it does, and the commands that make it."""

    what: str
    exists: Callable[[], bool]
    commands: Sequence[Sequence[str]]
    text: str | None = None
    refused: str | None = None  # what to say if GitHub answers that it cannot be (422)

    @property
    def fix(self) -> str:
        """What a person would type."""
        first, *others = map(shlex.join, self.commands)
        if self.text:
            first += f" <<< {shlex.quote(self.text)}"
        return " && ".join([first, *others])


def succeeds(*words: str) -> bool:
    """Return whether a command exits with 0."""
    return attempt(words).returncode == 0


def carry_out(steps: Iterable[Step], really: bool) -> int:
    """Make what is missing, or only say what that is; return how much is missing still."""
    missing = 0
    for step in steps:
        if step.exists():
            print(f"ok      {step.what}")
        elif really:
            _make(step)
            print(f"made    {step.what}")
        else:
            missing += 1
            print(f"missing {step.what}\n        {step.fix}")
    return missing


def _make(step: Step) -> None:
    try:
        for words in step.commands:
            run(words, step.text)
    except CloudError as error:
        if step.refused and "HTTP 422" in str(error):
            raise CloudError(step.refused) from error
        raise
