"""What is particular to where this project records: Databricks, or a file while trying."""

import os
import urllib.error
import urllib.request
from importlib import import_module

from .errors import RegistryError, first_line

LOGIN = "docs/databricks.md says how to sign in, and `make doctor` what is missing"
TAG_JOINT = "_"  # between the words of a tag's name: Unity Catalog takes no dot
QUICK = 2  # retries
SECONDS = 4


def prepare(uri: str, retries: int) -> None:
    """Set what MLflow's client needs here, unless the environment does, and sign in once.

    Raises
    ------
    RegistryError
        The workspace does not answer or does not let us in, which MLflow's client would try for
        minutes, and then not say in one line.
    """
    if not uri.startswith("databricks"):
        return
    variables = {
        # Its SDK has a patience of its own, which is minutes, and counts in seconds.
        "MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT": str(SECONDS if retries <= QUICK else 60),
        # Files go through the workspace, whichever cloud and bucket is behind it.
        "MLFLOW_USE_DATABRICKS_SDK_MODEL_ARTIFACTS_REPO_FOR_UC": "true",
        "_MLFLOW_ENABLE_UC_TRACE_UPSELL": "false",
    }
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    profile = uri.partition("://")[2] or os.environ.get("DATABRICKS_CONFIG_PROFILE")
    host = os.environ.get("DATABRICKS_HOST") if not profile else None
    if host:
        _reach(host if "//" in host else f"https://{host}")
    try:
        # Naming no profile is not the same as naming none: that may rule out ways to sign in.
        given = {"profile": profile} if profile else {}
        import_module("databricks.sdk.config").Config(**given).authenticate()
    except (OSError, ValueError) as error:
        reason = first_line(error).rstrip(".")
        said = f"signing in to {host or uri} failed: {reason}. {LOGIN}"
        raise RegistryError(said) from None


def _reach(host: str) -> None:
    try:
        urllib.request.urlopen(host, timeout=SECONDS).close()  # noqa: S310 - the user's own
    except urllib.error.HTTPError:
        pass  # an answer
    except OSError as error:
        reason = getattr(error, "reason", error)
        said = f"DATABRICKS_HOST={host} does not answer ({reason}); check it"
        raise RegistryError(said) from None


def run_page(uri: str, experiment: str, run_id: str) -> str | None:
    """Return a run's URL in the workspace, or None: then MLflow's own server shows it."""
    if not uri.startswith("databricks"):
        return None
    workspace = os.environ.get("DATABRICKS_HOST", uri).rstrip("/")
    return f"{workspace}/ml/experiments/{experiment}/runs/{run_id}"
