"""Whether runs and models can be recorded where the variables say: `make doctor`."""

from collections.abc import Sequence

from . import tracking
from .backend_checks import checks
from .errors import ProjectError, run_command
from .settings import Settings, load


def main(_arguments: Sequence[str] | None = None) -> int:
    """Check one thing after the other, print each with its fix; 1 if something is to fix."""
    missing = examine(load())
    print(f"\n{missing or 'nothing'} to fix")
    return 1 if missing else 0


def examine(settings: Settings) -> int:
    """Return how much is missing; what cannot be asked ends it, as the rest needs it as well."""
    missing = 0
    for what, find in checks(settings):
        try:
            fix = find(settings)
        except ProjectError as error:
            print(f"missing {what}\n        {error}")
            return missing + 1
        print(f"missing {what}\n        {fix}" if fix else f"ok      {what}")
        missing += fix is not None
    if missing:
        return missing
    try:
        tracking.connect(settings)
    except ProjectError as error:
        print(f"missing MLflow's answer\n        {error}")
        return 1
    print("ok      MLflow answers, and the experiment is there")
    return 0


if __name__ == "__main__":
    run_command(main)
