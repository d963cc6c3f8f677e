"""Run the command line tools of clouds and of Docker."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from .interface import CloudError

TIMEOUT_SECONDS = 1200


def attempt(words: Sequence[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command and return how it ended, whatever its exit code.

    Raises
    ------
    CloudError
        There is no such command, or it did not end.
    """
    try:
        return subprocess.run(
            words,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
    except FileNotFoundError:
        raise CloudError(f"{words[0]} is not installed, or not on the PATH") from None
    except subprocess.TimeoutExpired:
        raise CloudError(f"`{short(words)}` did not end in {TIMEOUT_SECONDS} s") from None


def run(words: Sequence[str], text: str | None = None) -> str:
    """Run a command, with `text` as its input, and return what it prints.

    Raises
    ------
    CloudError
        It failed; the message ends with the last line that it said about that.
    """
    done = attempt(words, text)
    if done.returncode:
        raise failure(words, done)
    return done.stdout


def failure(words: Sequence[str], done: subprocess.CompletedProcess[str]) -> CloudError:
    """Return the error that tells a failed command in one line."""
    said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
    return CloudError(f"`{short(words)}` failed with {done.returncode}: {said[-1]}")


def run_json(words: Sequence[str]) -> Any:
    """Run a command that prints JSON and return what it means."""
    return json.loads(run(words) or "null")


def short(words: Sequence[str]) -> str:
    """Return the words of a command up to its first option."""
    return " ".join(words[: next((i for i, w in enumerate(words) if w.startswith("-")), None)])
