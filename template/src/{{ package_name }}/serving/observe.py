"""What operators see: metrics for Prometheus, and a log of one JSON object per line."""

import asyncio
import contextlib
import logging
import os
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from pydantic_core import to_json

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where the workers' counts meet; its library reads it
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

REQUESTS = Counter("http_requests_total", "Requests answered.", ["route", "status"])
SECONDS = Histogram("http_request_seconds", "Time to answer.", ["route"], buckets=BUCKETS)
REJECTED = Counter("requests_rejected_total", "Requests refused unread or unscored.", ["reason"])
BATCH_SIZE = Histogram(
    "inference_batch_size", "Instances scored together.", buckets=[2**n for n in range(11)]
)
QUEUE_DEPTH = Gauge(
    "inference_queue_depth", "Requests waiting for their batch.", multiprocess_mode="livesum"
)
MISSING = Counter("feature_missing_total", "Instances without a value.", ["feature"])
DROPPED = Counter("prediction_log_dropped_total", "Lines the prediction log could not take.")
RELOADS = Counter("model_reloads_total", "Looks for another version that had news.", ["outcome"])


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is one of its fields."""
        fields: dict[str, Any] = {
            "time": now(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return to_json(fields).decode()


def now() -> str:
    """Return the time as logs have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def start_logging(level: str) -> None:
    """Send the logs of this process to standard error, a JSON object a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # A log that cannot be written, to a full disk for one, must not hold up the answers.
    logging.raiseExceptions = False


def count_request(route: str, status: int, seconds: float) -> None:
    """Count and time an answered request."""
    counted, timed = _of(route, status)
    counted.inc()
    timed.observe(seconds)


@cache
def _of(route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(route, status), SECONDS.labels(route)


class AccessLog:
    """A line for each answered request, past the logging module, which would cost as much.

    Those of one turn of the event loop are written together: a system call takes as long as the
    line, and lines of several workers are not mixed in a pipe that takes a group whole.
    """

    TOGETHER = 12

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    def write(self, request_id: str, method: str, path: str, status: int, seconds: float) -> None:
        """Take one line; the event loop writes it when it comes round."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
        line = {
            "time": now(), "level": "info", "logger": "access", "request_id": request_id,
            "method": method, "path": path[:200], "status": status, "ms": round(seconds * 1e3, 3),
        }  # fmt: skip
        self._lines.append(to_json(line) + b"\n")

    def _flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for start in range(0, len(self._lines), self.TOGETHER):
                group = self._lines[start : start + self.TOGETHER]
                os.write(sys.stderr.fileno(), b"".join(group))
        self._lines.clear()


def page(model: dict[str, str]) -> bytes:
    """Return the metrics, of all workers where there are several, and which model answers."""
    answers = CollectorRegistry()
    Info("model", "The model that answers.", registry=answers).info(model)
    counted = REGISTRY
    if SHARED in os.environ:
        counted = CollectorRegistry()
        MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
    return generate_latest(counted) + generate_latest(answers)


def forget_dead_workers() -> None:
    """Take workers that were killed out of what is summed over the living."""
    for path in Path(os.environ[SHARED]).glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
