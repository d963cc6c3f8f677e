"""Names that Terraform made: variables of the environment, or of GitHub's, all in one as JSON."""

import json
import os

from ..errors import ConfigError

ALL = "VARIABLES"  # in workflows: toJSON(vars), so that no list of names is kept there


def variable(name: str, default: str | None = None) -> str:
    """Return a variable's value.

    Raises
    ------
    ConfigError
        It is not set, and there is no default.
    """
    try:
        every = json.loads(os.environ.get(ALL) or "{}")
    except json.JSONDecodeError:
        raise ConfigError(f"{ALL} in the environment is not JSON") from None
    value = os.environ.get(name) or every.get(name) or default
    if value is None:
        raise ConfigError(
            f"{name} is not set: `make github ENV=…` copies it from Terraform to GitHub, a line in "
            "docs/runbook.md from there to a shell; `make doctor ENV=…` says what else is missing"
        )
    return str(value)


def of_environment(name: str, environment: str) -> str:
    """Return a variable's value, which ends with the environment that it belongs to.

    Raises
    ------
    ConfigError
        It is not set, or the variables are another environment's.
    """
    value = variable(name)
    if not value.endswith(f"-{environment}"):
        raise ConfigError(
            f"{name} is {value}, so these variables are not those of {environment}: take them by "
            "the line in docs/runbook.md"
        )
    return value
