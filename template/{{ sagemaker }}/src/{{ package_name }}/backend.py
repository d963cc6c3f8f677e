"""What is particular to where this project records: SageMaker, or a file while trying."""

import logging
import re
from importlib import import_module

from .errors import RegistryError

LOGIN = "docs/sagemaker.md says how to sign in, and `make doctor` what is missing"
TAG_JOINT = "."  # between the words of a tag's name
ARN = r"arn:[\w-]+:sagemaker:[\w-]+:\d{12}:mlflow-(tracking-server|app)/[\w-]+"


def prepare(uri: str, _retries: int) -> None:
    """Find out at once whether the address can be used at all.

    Raises
    ------
    RegistryError
        It is no ARN of a tracking server or app, or nobody is signed in to AWS.
    """
    if not uri.startswith("arn:"):
        # The plugin looks for an ARN in every address, and MLflow warns that it found none.
        logging.getLogger("mlflow.tracking.request_header.registry").setLevel(logging.ERROR)
        return
    if not re.fullmatch(ARN, uri):
        raise RegistryError(
            f"{uri} is no ARN of a tracking server or app; it looks like "
            "arn:aws:sagemaker:REGION:ACCOUNT:mlflow-tracking-server/NAME"
        )
    if import_module("boto3").Session().get_credentials() is None:
        raise RegistryError(f"nobody is signed in to AWS, where {uri} is; {LOGIN}")


def run_page(uri: str, experiment: str, run_id: str) -> str | None:
    """Return a run's path below SageMaker's page, or None: then MLflow's own server shows it."""
    if not uri.startswith("arn:"):
        return None
    return f"in SageMaker Studio, #/experiments/{experiment}/runs/{run_id}"
