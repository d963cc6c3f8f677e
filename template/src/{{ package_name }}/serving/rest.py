"""MLflow's REST API as far as a service needs it: name a version, download its bundle.

Credentials are MLflow's own variables: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD.
"""

import base64
import json
import os
import shutil
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from ..errors import RegistryError, no_version
from ..settings import shown

# A server that is down is told in about three seconds; MLflow's own client would take four minutes.
RETRIES = int(os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"))
TIMEOUT = float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "5"))
ABSENT = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"}
BUSY = {429, 500, 502, 503, 504}
DEEPEST = 8


def version(uri: str, name: str, alias: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the version that an alias names, and its tags.

    Raises
    ------
    RegistryError
        The server cannot be reached, refused, or knows no such version.
    """
    words = urlencode({"name": name, "alias": alias})
    try:
        found = _json(uri, f"/api/2.0/mlflow/registered-models/alias?{words}")["model_version"]
    except HTTPError as error:
        if _code(error) in ABSENT:
            raise no_version(name, alias) from None
        raise _refused(uri, error) from None
    return found, {tag["key"]: tag.get("value", "") for tag in found.get("tags", [])}


def download(uri: str, run_id: str, place: str, folder: Path, depth: int = 0) -> None:
    """Download what a run keeps at a place among its artifacts into a folder.

    Raises
    ------
    RegistryError
        A file cannot be had, or has a name that leads out of the folder.
    """
    words = urlencode({"run_id": run_id, "path": place})
    try:
        listed = _json(uri, f"/api/2.0/mlflow/artifacts/list?{words}").get("files", [])
        for each in listed:
            path = PurePosixPath(each["path"])
            if path.parent != PurePosixPath(place) or path.name in {"", ".."} or depth > DEEPEST:
                raise RegistryError(f"{shown(uri)} lists a file outside of {place}: {str(path)!r}")
            target = folder / path.name
            if each.get("is_dir"):
                target.mkdir(exist_ok=True)
                download(uri, run_id, str(path), target, depth + 1)
            else:
                words = urlencode({"run_uuid": run_id, "path": path})
                with _get(uri, f"/get-artifact?{words}") as content, target.open("wb") as out:
                    shutil.copyfileobj(content, out)
    except HTTPError as error:
        raise _refused(uri, error) from None
    except (OSError, HTTPException) as error:
        raise RegistryError(f"{shown(uri)}: {place} cannot be downloaded: {error}") from None


def _json(uri: str, path: str) -> dict[str, Any]:
    with _get(uri, path) as content:
        try:
            found: dict[str, Any] = json.load(content)
        except (ValueError, HTTPException) as error:
            raise RegistryError(f"{shown(uri)} is not an MLflow server: {error}") from None
    return found


def _get(uri: str, path: str) -> HTTPResponse:
    """Send a request, again if the server is away or busy; other refusals are the caller's."""
    request = Request(f"{shown(uri).rstrip('/')}{path}")  # noqa: S310  (the configured server)
    for name, value in _credentials(uri).items():
        request.add_unredirected_header(name, value)  # no other host is told
    for attempt in range(RETRIES + 1):
        if attempt:
            time.sleep(2.0 ** (attempt - 1))
        try:
            response: HTTPResponse = urlopen(request, timeout=TIMEOUT)  # noqa: S310
        except HTTPError as error:
            if error.code not in BUSY or attempt == RETRIES:
                raise
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
        else:
            return response
    raise RegistryError(
        f"the registry {shown(uri)} does not answer: {reason}. "
        "Check MLFLOW_TRACKING_URI and that the server is up, or set MODEL_BUNDLE"
    )


def _credentials(uri: str) -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    parts = urlsplit(uri)
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or parts.username
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or parts.password or ""
    if user:
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {encoded}"}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _code(error: HTTPError) -> str:
    try:
        return str(json.load(error)["error_code"])
    except (ValueError, KeyError, TypeError, OSError):
        return ""


def _refused(uri: str, error: HTTPError) -> RegistryError:
    hint = "export its credentials" if error.code in {401, 403} else "look at its log"
    return RegistryError(f"the registry {shown(uri)} answered {error.code} {error.reason}; {hint}")
