"""Ask a revision what its callers would ask, and check what it says about itself."""

import http.client
import json
import math
import os
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

from ..contract import SMOKE, example
from .interface import Endpoint
from .manifest import Model

REQUEST_SECONDS = 10.0
PAUSE_SECONDS = 1.0
API_KEY = "SMOKE_API_KEY"  # one of the service's API_KEYS, where it asks for one


class SmokeError(Exception):
    """What a revision answered is not what it should."""


def check(
    endpoint: Endpoint,
    model: Model,
    ready_seconds: float,
    running: Callable[[], bool] = lambda: True,
) -> None:
    """Wait until a revision is ready, while it is running; check its model and its predictions.

    Raises
    ------
    SmokeError
        It ends, is not ready in time, serves another model, or does not predict.
    """
    _wait(endpoint, ready_seconds, running)
    said = _ask(endpoint, "/version")
    served = (said.get("model_name"), said.get("model_version"), said.get("bundle_sha256"))
    wanted = (model.name, model.version, model.bundle_sha256)
    if served != wanted:
        raise SmokeError(f"/version says {served}, released is {wanted}")
    predict(endpoint)


def predict(endpoint: Endpoint) -> None:
    """Ask for the prediction of the schema's example, alone and in a batch; they must agree.

    Raises
    ------
    SmokeError
        It answers an error, or no number, or differently in a batch.
    """
    alone = _numbers(_ask(endpoint, "/predict", {"instances": [example()]}), 1)
    batch = _numbers(_ask(endpoint, "/predict", {"instances": [example()] * 3}), 3)
    if batch != alone * 3:
        raise SmokeError(f"/predict answers {alone} alone and {batch} in a batch")


def _wait(endpoint: Endpoint, seconds: float, running: Callable[[], bool]) -> None:
    # Not /readyz: the front ends of some platforms keep paths that end in z for themselves.
    deadline = time.monotonic() + seconds
    while True:
        try:
            _ask(endpoint, "/version")
        except SmokeError as error:
            if not running():
                raise SmokeError("it ended before it was ready; its log is above") from None
            if time.monotonic() > deadline:
                raise SmokeError(f"not ready within {seconds:.0f} s: {error}") from None
            time.sleep(PAUSE_SECONDS)
        else:
            return


def _numbers(answer: dict[str, Any], count: int) -> list[float]:
    found = answer.get("predictions")
    if not isinstance(found, list) or len(found) != count:
        raise SmokeError(f"/predict answers {answer} to {count} instances")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in found):
        raise SmokeError(f"/predict answers {found}, which are not all numbers")
    return [float(value) for value in found]


def _ask(endpoint: Endpoint, path: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    # Monitoring leaves out what has such an id: the same row a hundred times would be drift.
    about = {"Content-Type": "application/json", "X-Request-ID": f"{SMOKE}{uuid.uuid4().hex}"}
    headers = {**endpoint.headers, **about}
    if os.environ.get(API_KEY):
        headers["X-API-Key"] = os.environ[API_KEY]
    request = urllib.request.Request(endpoint.url.rstrip("/") + path, data, headers)  # noqa: S310  (the cloud's own address)
    try:
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read(200).decode(errors="replace")  # may end within a character
            raise SmokeError(f"{path} answers {error.code}: {said}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SmokeError(f"{path} does not answer: {error}") from None
    if not isinstance(found, dict):
        raise SmokeError(f"{path} answers {found!r}")
    return found
