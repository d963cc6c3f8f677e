"""What is particular to where this project records: a file, or a server of MLflow."""

import os

LOGIN = (
    "Export MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of one who may, or a new "
    "MLFLOW_TRACKING_TOKEN"
)
TAG_JOINT = "."  # between the words of a tag's name


def prepare(_uri: str, _retries: int) -> None:
    """Set what MLflow's client needs here, unless the environment does."""
    # Files go through the server: the bucket behind it need not be one that we can reach.
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")


def run_page(_uri: str, _experiment: str, _run_id: str) -> str | None:
    """Return None: MLflow's own server shows it."""
    return None
