"""A SageMaker tracking server as its plugin sees it, for contract tests.

A real `mlflow server` answers; what is played before it lets in only what is signed as AWS asks
(Signature Version 4) and says which server it is for, and puts the files of experiments into a
bucket that clients write to themselves. The service's own API describes the server.
"""

import hashlib
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass

from managed import Handler, Played, RefusedError, Request, listening

REGION, ACCOUNT = "eu-central-1", "123456789012"  # the account that moto has
ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:mlflow-tracking-server/team"
BUCKET = "flights-mlflow"
KEY, SECRET = "AKIDEXAMPLE", "of-the-trainer"
SIGNED = re.compile(
    rf"AWS4-HMAC-SHA256 Credential={KEY}/\d{{8}}/{REGION}/sagemaker-mlflow/aws4_request, "
    r"SignedHeaders=(?P<headers>[\w;-]+), Signature=[0-9a-f]{64}"
)


@dataclass
class Server(Played):
    """What it keeps."""

    status: str = "Created"
    version: str = "99.0"
    expired: bool = False  # whether the client's session is over

    def login(self, store: str) -> dict[str, str]:
        """Return what a person or a job has in the environment; `store` is moto's address."""
        return {
            "MLFLOW_TRACKING_URI": ARN, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION, "SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT": self.address,
            "AWS_ENDPOINT_URL_SAGEMAKER": self.address, "AWS_ENDPOINT_URL_STS": store,
            "AWS_ENDPOINT_URL_S3": store, "MLFLOW_S3_ENDPOINT_URL": store,
        }  # fmt: skip


class OfServer(Handler):
    """Looks at signatures."""

    played: Server

    def play(self, request: Request) -> bool:
        target = request.headers.get("x-amz-target", "")
        if target == "SageMaker.DescribeMlflowTrackingServer":
            return self.say(200, self.described())
        if target:
            raise RefusedError(400, "ValidationException", f"{target} is not played")
        if self.played.expired:
            said = "The security token included in the request is expired"
            raise RefusedError(403, "PERMISSION_DENIED", said)
        signed = SIGNED.fullmatch(request.headers.get("authorization", ""))
        digest = hashlib.sha256(request.content).hexdigest()
        named = request.headers.get("x-mlflow-sm-tracking-server-arn")
        if not signed or named != ARN or request.headers["x-amz-content-sha256"] != digest:
            raise RefusedError(
                403, "PERMISSION_DENIED", "The request is not signed for this server"
            )
        if "x-mlflow-sm-tracking-server-arn" not in signed["headers"].split(";"):
            raise RefusedError(403, "PERMISSION_DENIED", "The server's name is not signed")
        return False

    def described(self) -> dict[str, str]:
        return {
            "TrackingServerArn": ARN, "TrackingServerName": "team", "IsActive": "Active",
            "TrackingServerStatus": self.played.status, "MlflowVersion": self.played.version,
            "ArtifactStoreUri": f"s3://{BUCKET}/team",
        }  # fmt: skip

    def location(self, request: Request) -> str:
        del request
        return f"s3://{BUCKET}/team/{len(self.played.requests)}"


def tracking_server(server: str) -> AbstractContextManager[Server]:
    """Play a tracking server in front of MLflow's own."""
    return listening(Server(server), OfServer)
