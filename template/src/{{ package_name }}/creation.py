"""Creating something on a server exactly once, though its answer may be lost.

MLflow's client either repeats a creation whose answer was lost, which makes a second run or
version, or gives up on it. Here each request is sent once, and again only after what it may have
made was looked for.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from mlflow.exceptions import MlflowException

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
AWAY = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"}  # the first is also a lost connection
FIRST_PAUSE = 1.0

T = TypeVar("T")


@contextlib.contextmanager
def unrepeated() -> Iterator[None]:
    """Let MLflow's client send each request once."""
    before = os.environ.get(RETRIES)
    os.environ[RETRIES] = "0"
    try:
        yield
    finally:
        os.environ.pop(RETRIES, None)
        if before is not None:
            os.environ[RETRIES] = before


def once(create: Callable[[], T], find: Callable[[], T | None]) -> T:
    """Return what was created, or found to have been created by an attempt that seemed to fail."""
    left = int(os.environ.get(RETRIES, "0"))
    pause = FIRST_PAUSE
    while True:
        try:
            with unrepeated():
                return create()
        except MlflowException as error:
            if error.error_code not in AWAY:
                raise
            found = find()  # waits for a server that is away, and raises if it stays away
            if found is not None:
                return found
            if not left:
                raise
        time.sleep(pause)
        left, pause = left - 1, pause * 2
