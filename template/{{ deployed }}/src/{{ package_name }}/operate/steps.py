"""Steps that look first: what is there already is left alone, and nothing is made unasked."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..release.command import attempt, run


@dataclass(frozen=True)
class Step:
    """Something that must exist: how to see that it does, and the commands that make it."""

    what: str
    exists: Callable[[], bool]
    commands: Sequence[Sequence[str]]
    text: str | None = None

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
            for words in step.commands:
                run(words, step.text)
            print(f"made    {step.what}")
        else:
            missing += 1
            print(f"missing {step.what}\n        {step.fix}")
    return missing
