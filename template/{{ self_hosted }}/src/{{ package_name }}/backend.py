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


def run_page(uri: str, experiment: str, run_id: str) -> str:
    """Return a run's URL on its server, or on the one that `make ui` starts."""
    server = uri if uri.startswith("http") else "http://127.0.0.1:5000"
    return f"{server}/#/experiments/{experiment}/runs/{run_id}"
