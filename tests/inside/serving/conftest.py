"""Faults of the service, tested inside a rendered project, as src/<package>/tests/serving.

A bundle of the trained project's version, and services that run on it as they would anywhere.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from ...contract import example
from ...serving import fetch
from ...serving.source import RECORD, Release
from ...settings import PACKAGE, Settings
from ..conftest import standing_in

SECONDS = 60.0


@pytest.fixture(scope="session")
def fetched(trained_folder: Path) -> Path:
    """What `make bundle` writes for the version in production."""
    out = trained_folder / "bundles" / "production"
    with standing_in(trained_folder) as project:
        project.promote()
        assert fetch.main(["--out", str(out)]) == 0
    return out


@pytest.fixture
def baked(fetched: Path, tmp_path: Path) -> Path:
    """A bundle of one's own, to be changed and broken."""
    return Path(shutil.copytree(fetched, tmp_path / "baked"))


def release_as(folder: Path, **changes: str) -> None:
    """Change what a bundle says it is, as a new version in the same place would."""
    release = Release.model_validate_json((folder / RECORD).read_bytes())
    partial = folder.parent / "record"
    partial.write_text(release.model_copy(update=changes).model_dump_json())
    partial.replace(folder / RECORD)


@dataclass
class Server:
    """A running `python -m <package>.serving`."""

    process: subprocess.Popen[bytes]
    client: httpx.Client

    def ask(self, *instances: dict[str, Any]) -> Any:
        """Return the answer for instances, or for the example."""
        answer = self.client.post("/predict", json={"instances": instances or [example()]})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def workers(self) -> list[int]:
        """Return the processes that answer, if they are not the one that was started."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        commands: dict[int, bytes] = {}
        for pid in found.split():
            with suppress(OSError):  # it ended between the two looks
                commands[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes()
        return [pid for pid, command in commands.items() if b"spawn_main" in command]


@pytest.fixture
def serve(baked: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a service of the bundle, with settings."""
    started: list[Server] = []

    def start(
        stdout: IO[Any] | None = None, stderr: IO[Any] | None = None, **variables: str
    ) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        known = {name.upper(): "" for name in Settings.model_fields}  # whatever .env says
        given = {"MODEL_BUNDLE": str(baked), "PORT": port, "LOG_LEVEL": "warning", **variables}
        process = subprocess.Popen(
            [sys.executable, "-m", f"{PACKAGE}.serving"],
            env={**os.environ, **known, **given},
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        started.append(Server(process, httpx.Client(base_url=f"http://127.0.0.1:{port}")))
        wait(lambda: process.poll() is not None or _ready(started[-1]))
        return started[-1]

    yield start
    for server in started:
        with suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


def _ready(server: Server) -> bool:
    with suppress(httpx.TransportError):
        return server.client.get("/readyz").status_code == 200
    return False


def wait(happened: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)
