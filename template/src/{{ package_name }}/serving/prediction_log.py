"""The prediction log: one JSON line per instance, on disk or in the pipe before the answer leaves.

It is written synchronously, because some platforms stop the CPU once a response is sent. Whatever
goes wrong is counted in `dropped` and never raised: an answer matters more than its record.
"""

import json
import math
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from ..bundle import Instances, Scores
from ..contract import FEATURE_NAMES
from ..errors import ConfigError
from ..settings import ROOT, Settings
from .source import Release

SCHEMA = 1
STANDARD_OUTPUT = "-"
LONGEST_VALUE = 128  # characters of one text value
LONGEST_LINE = 131_072  # bytes; log services cut or refuse entries of 256 KB
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class PredictionLog:
    """Where predictions are written; `dropped` counts the lines that could not be.

    Parameters
    ----------
    destination
        Nothing (the log is off), `-` for standard output, or a folder, which gets one file per
        day (UTC) and process.
    sample
        The fraction of requests that is written, chosen by a hash of the request's id: the same
        request is in or out in every process.
    """

    def __init__(self, destination: str, sample: float = 1.0) -> None:
        self.dropped = 0
        self._folder = ROOT / destination
        self._sample = sample
        self._piped = destination == STANDARD_OUTPUT
        self._on = bool(destination) and sample > 0
        self._lock = threading.Lock()
        self._day = ""
        self._descriptor = 1  # standard output, until a file is opened
        self._torn = False

    def write(
        self, request_id: str, release: Release, instances: Instances, scores: Scores
    ) -> None:
        """Write one request's instances and their scores, or count them as dropped."""
        if not self._on or not chosen(request_id, self._sample):
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        about = {
            "schema": SCHEMA,
            "time": now,
            "request_id": request_id[:LONGEST_VALUE],
            "row": 0,
            "model": release.name,
            "version": release.version,
            "sample": self._sample,
        }
        left = len(instances)
        try:
            lines = [
                _line({**about, "row": row}, instance, float(score))
                for row, (instance, score) in enumerate(zip(instances, scores, strict=True))
            ]
            with self._lock:
                # Longer writes to a pipe may be mixed with another worker's, so each line is one.
                for group in ([line] for line in lines) if self._piped else [lines]:
                    self._put(now[:10], group)
                    left -= len(group)
        except (OSError, TypeError, ValueError):
            self.dropped += left

    def _put(self, day: str, lines: Sequence[bytes]) -> None:
        """Write whole lines; after a write that was cut short, begin on a line of one's own."""
        if not self._piped and day != self._day:
            self._open(day)
        rest = memoryview((b"\n" if self._torn else b"") + b"".join(lines))
        while rest:
            written = os.write(self._descriptor, rest)
            self._torn, rest = True, rest[written:]
        self._torn = False

    def _open(self, day: str) -> None:
        path = self._folder / f"{day}-{socket.gethostname()}-{os.getpid()}.jsonl"
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if self._day:
            os.close(self._descriptor)
        # A process of the same number may have died here in the middle of a line.
        self._torn = os.fstat(opened).st_size > 0
        self._descriptor, self._day = opened, day


def open_log(settings: Settings) -> PredictionLog:
    """Return the configured log.

    Raises
    ------
    ConfigError
        Its folder cannot be made or written to.
    """
    destination = settings.prediction_log
    if destination not in {"", STANDARD_OUTPUT}:
        folder = ROOT / destination
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"PREDICTION_LOG={destination}: {error.strerror}; name a folder, or - for "
                "standard output"
            ) from None
        if not os.access(folder, os.W_OK):
            raise ConfigError(f"PREDICTION_LOG={destination}: the folder cannot be written to")
    return PredictionLog(destination, settings.prediction_log_sample)


def chosen(request_id: str, sample: float) -> bool:
    """Return whether a request belongs to the sample."""
    if sample >= 1:
        return True
    digest = blake2b(request_id.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) < sample * 2**64


def _line(about: Mapping[str, Any], instance: Mapping[str, Any], score: float) -> bytes:
    """Encode one instance: the schema's features and nothing else that a client may have sent."""
    cut, strange = 0, int(not math.isfinite(score))
    features: dict[str, Any] = {}
    for name in FEATURE_NAMES:
        value = instance.get(name)
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            value, cut = value[:LONGEST_VALUE], cut + 1
        elif isinstance(value, float) and not math.isfinite(value):  # JSON has no such numbers
            value, strange = None, strange + 1
        features[name] = value
    counts = {"truncated": cut, "not_finite": strange}
    entry = {**about, "score": score if math.isfinite(score) else None, **counts}
    line = _encode({**entry, "features": features}).encode() + b"\n"
    if len(line) <= LONGEST_LINE:
        return line
    return _encode({**entry, "truncated": len(features), "features": {}}).encode() + b"\n"
