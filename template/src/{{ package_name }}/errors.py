"""How a mistake reaches a person: one sentence on standard error and an exit code, no traceback."""

import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import NoReturn

INTERRUPTED = 130
TERMINATED = 143


class ProjectError(Exception):
    """Something the user can mend; its message says what is wrong and what to do next."""

    exit_code = 1


class ConfigError(ProjectError):
    """A configuration file, an override or an environment variable is not valid."""


class DataError(ProjectError):
    """A data file is missing, unreadable or breaks the schema."""


class StageError(ProjectError):
    """A pipeline stage cannot run as asked."""


class RegistryError(ProjectError):
    """The tracking store is unreachable, or holds no such model or version."""


class GateError(ProjectError):
    """A model version failed a promotion gate."""

    exit_code = 3


class ConflictError(ProjectError):
    """Somebody else holds the registry lock, or moved an alias since it was looked at."""

    exit_code = 4


class DeliveryError(ProjectError):
    """A request for a retraining was not accepted where it was sent."""


def no_version(name: str, alias: str) -> RegistryError:
    """Return what to raise where no version of a model has an alias."""
    return RegistryError(f"model {name!r} has no {alias} version yet; run `make run promote` first")


def first_line(error: Exception) -> str:
    """Return what an error says, or its kind where it says nothing, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Turn SIGTERM into an exit, so that runs are closed and temporary files removed."""
    # Process groups and wrappers often send it twice; the second would interrupt the clean-up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(TERMINATED)


def run_command(main: Callable[[Sequence[str] | None], int | None]) -> NoReturn:
    """Run a command line entry point and exit with its code."""
    signal.signal(signal.SIGTERM, terminate)
    try:
        sys.exit(main(None) or 0)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell a mistake that is found while modules load, such as in schema.py, like any other."""
    if isinstance(error, ProjectError):
        print(f"error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
