"""What SageMaker needs before it records runs and models: an ARN, a login, a server, a bucket."""

from collections.abc import Callable
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import __version__ as client_version

from . import backend
from .errors import RegistryError
from .settings import Settings

Check = tuple[str, Callable[[Settings], str | None]]
READY = {"Created", "Updated", "Started", "MaintenanceComplete"}
Described = dict[str, Any]


def checks(settings: Settings) -> list[Check]:
    """Return what to look at, and how to find a fix; none is that it is right."""
    address: Check = ("MLFLOW_TRACKING_URI is an ARN of a tracking server or app", _address)
    if _address(settings) is not None:
        return [address]
    return [
        address,
        ("the login is accepted", _login),
        ("the server is up", _server),
        ("its MLflow is no older than ours", _version),
        ("its bucket can be read", _bucket),
    ]


def _address(settings: Settings) -> str | None:
    if settings.mlflow_tracking_uri.startswith("arn:"):
        try:
            backend.prepare(settings.mlflow_tracking_uri, 0)
        except RegistryError as error:
            return str(error)
        return None
    return "export MLFLOW_TRACKING_URI=arn:aws:sagemaker:REGION:ACCOUNT:mlflow-tracking-server/NAME"


def _login(settings: Settings) -> str | None:
    region, account = settings.mlflow_tracking_uri.split(":")[3:5]
    mine = _asked("sts", region, "get_caller_identity")["Account"]
    if mine == account:
        return None
    return f"you are signed in to account {mine}, the server is in {account}: sign in there"


def _server(settings: Settings) -> str | None:
    told = _described(settings.mlflow_tracking_uri)
    status = str(told.get("TrackingServerStatus") or told.get("Status"))
    if told.get("IsActive", "Active") == "Active" and status in READY:
        return None
    name = told.get("TrackingServerName")
    start = f"; aws sagemaker start-mlflow-tracking-server --tracking-server-name {name}"
    return f"its status is {status}{start if name else ''}"


def _version(settings: Settings) -> str | None:
    theirs = _described(settings.mlflow_tracking_uri).get("MlflowVersion")
    if theirs is None or _numbers(theirs) >= _numbers(client_version):
        return None
    return (
        f"the server has MLflow {theirs}, this project {client_version}: update the server, or "
        f"`uv add --group train 'mlflow=={theirs}'` if that is in this project's range"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _bucket(settings: Settings) -> str | None:
    place = _described(settings.mlflow_tracking_uri).get("ArtifactStoreUri") or ""
    bucket, _, prefix = str(place).removeprefix("s3://").partition("/")
    region = settings.mlflow_tracking_uri.split(":")[3]
    _asked("s3", region, "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
    return None


@cache
def _described(arn: str) -> Described:
    kind, _, name = arn.split(":")[5].partition("/")
    region = arn.split(":")[3]
    if kind == "mlflow-app":
        return _asked("sagemaker", region, "describe_mlflow_app", Arn=arn)
    return _asked("sagemaker", region, "describe_mlflow_tracking_server", TrackingServerName=name)


def _asked(service: str, region: str, operation: str, **given: Any) -> Described:
    try:
        answer: Described = getattr(boto3.client(service, region_name=region), operation)(**given)
    except (BotoCoreError, ClientError) as error:
        raise RegistryError(f"{error}; see the policy in docs/sagemaker.md") from None
    return answer
