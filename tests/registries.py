"""Real tracking stores to run a project's own tests against: Postgres, and MLflow's server."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 180
# Debian keeps the server's commands out of PATH, in a folder per version.
DEBIAN = Path("/usr/lib/postgresql")


class NoPostgresError(Exception):
    """Postgres is not installed here."""


def postgres_commands() -> Path:
    """Return the folder that holds initdb and pg_ctl.

    Raises
    ------
    NoPostgresError
        There is none.
    """
    found = [*sorted(DEBIAN.glob("*/bin/initdb"), reverse=True)]
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        raise NoPostgresError("install Postgres (Debian: apt-get install postgresql)")
    return (found[0] if found else Path(str(on_path))).parent


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def postgres() -> Iterator[str]:
    """Run a Postgres of one's own and give the URI of an empty database in it."""
    commands, port = postgres_commands(), free_port()
    # Not below pytest's folder: that is closed to the account the server has to run as.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    account = _account()
    if account is not None:
        os.chown(folder, account, -1)
    data = folder / "data"

    def run(*words: str) -> None:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, user=account, cwd=folder)

    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    control = [str(commands / "pg_ctl"), "-D", str(data), "-w"]
    try:
        run(str(commands / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8")
        run(*control, "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            run(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _account() -> int | None:
    """Return whom the server runs as: it refuses root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    return names.get("postgres", names["nobody"])


@contextmanager
def mlflow_server(store: str, folder: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """Run MLflow's server, with artifacts passing through it, and give its address."""
    address = f"http://127.0.0.1:{free_port()}"
    words = [
        *("uv", "run", "--no-sync", "mlflow", "server", "--backend-store-uri", store),
        *("--artifacts-destination", (folder / "artifacts").as_uri(), "--workers", "1"),
        *("--host", "127.0.0.1", "--port", address.rpartition(":")[2]),
    ]
    quiet = {**variables, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            words, cwd=folder / "project", env=quiet, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait(f"{address}/health", process, folder / "server.log")
            yield address
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait(page: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(page, timeout=5):  # noqa: S310  (the server just started)
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.5)
    sys.stderr.write(log.read_text())
    raise TimeoutError(f"{page} does not answer")
