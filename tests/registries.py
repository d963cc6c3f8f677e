"""Real tracking stores to run a project's own tests against: Postgres, and MLflow's server."""

import base64
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

START_SECONDS = 180
# Debian keeps the server's commands out of PATH, in a folder per version.
DEBIAN = Path("/usr/lib/postgresql")


class NoPostgresError(Exception):
    """Postgres is not installed here."""


@dataclass
class Installed:
    """An installed project in a folder that has room for what is run beside it."""

    folder: Path
    variables: dict[str, str]

    @property
    def path(self) -> Path:
        """The project itself."""
        return self.folder / "project"

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project."""
        return subprocess.run(
            words, cwd=self.path, env={**self.variables, **variables}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    def done(self, *words: str, **variables: str) -> str:
        """Run a command that succeeds, and return what it printed."""
        done = self.run(*words, **variables)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr}"
        return done.stdout

    def status(self, **login: str) -> dict[str, Any]:
        """Return the versions, the stages, and where the journal disagrees with them."""
        words = ("uv", "run", "--no-sync", "promote_model", "status", "--json")
        found: dict[str, Any] = json.loads(self.done(*words, **login))
        return found


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


def wait(page: str, seconds: float, alive: Callable[[], bool] = lambda: True) -> None:
    """Wait until a page is there.

    Raises
    ------
    OSError
        It is not in time, or what should give it is dead.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(page, timeout=5):  # noqa: S310  (what we started)
                return
        except OSError:
            if time.monotonic() > deadline or not alive():
                raise
            time.sleep(0.05)


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


class Stack:
    """`make mlflow`, the command of a project's compose.yaml, with moto's S3 as its bucket."""

    def __init__(self, folder: Path, variables: Mapping[str, str], state: Path) -> None:
        self._project, self._state = folder / "project", state
        self.log = folder / "server.log"
        self.address = f"http://127.0.0.1:{free_port()}"
        self.store = f"http://127.0.0.1:{free_port()}"
        services = yaml.safe_load((self._project / "deploy/mlflow/compose.yaml").read_text())
        self._described = services["services"]
        server = self._described["server"]
        (self.bucket,) = (word for word in server["command"] if word.startswith("s3://"))
        # What the server is given, and its clients are not: the bucket's address and keys.
        self._variables = {
            **variables, "PGDATA": str(state / "postgres" / "data"), "PGPORT": str(free_port()),
            "AWS_ACCESS_KEY_ID": "mlflow", "AWS_SECRET_ACCESS_KEY": "of-the-server-alone",
            "AWS_ENDPOINT_URL_S3": self.store,
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def _started(self, words: list[str], page: str) -> subprocess.Popen[bytes]:
        with self.log.open("a") as log:
            process = subprocess.Popen(
                words, cwd=self._project, env=self._variables, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        _wait(page, process, self.log)
        return process

    def start_store(self) -> subprocess.Popen[bytes]:
        """Start moto, and make the bucket as compose.yaml does with every `up`."""
        moto = str(Path(sys.executable).with_name("moto_server"))
        words = [moto, "-H", "127.0.0.1", "-p", self.store.rpartition(":")[2]]
        process = self._started(words, f"{self.store}/moto-api/")
        make = ["uv", "run", "--no-sync", *self._described["make-bucket"]["command"]]
        for _ in range(2):
            subprocess.run(make, cwd=self._project, env=self._variables, check=True)
        return process

    @contextmanager
    def on_google(self) -> Iterator[str]:
        """Stop the server; run it with a bucket of Google's kind, and give that store's address."""
        self.stop()
        address = f"http://127.0.0.1:{free_port()}"
        self.bucket, self._variables["STORAGE_EMULATOR_HOST"] = "gs://mlflow", address
        emulator = str(Path(sys.executable).with_name("gcp-storage-emulator"))
        words = [emulator, "start", "-H", "127.0.0.1", "--port", address.rpartition(":")[2]]
        words += ["--default-bucket", "mlflow", "--in-memory"]
        with self._started(words, f"{address}/storage/v1/b/mlflow") as process:
            try:
                self.start()
                yield address
            finally:
                self.stop()
                process.terminate()

    def start(self, *more: str) -> None:
        """Start the server, and wait until it answers."""
        port = self.address.rpartition(":")[2]
        options = " ".join(["--port", port, "--artifacts", self.bucket, *more])
        words = ["make", "mlflow", f"ARGS={options}"]
        self._process = self._started(words, f"{self.address}/health")

    def kill(self) -> None:
        """Kill the server and its workers; Postgres, which is a process of its own, stays."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def runs(self) -> bool:
        """Tell whether the server is up."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop everything as Ctrl-C would."""
        if self._process is not None and self.runs():
            os.killpg(self._process.pid, signal.SIGINT)
            self._process.wait(timeout=60)

    def login(self) -> dict[str, str]:
        """Return what a client is told: no key of the bucket, no password of the database."""
        return {
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": self._secret("MLFLOW_AUTH_ADMIN_PASSWORD"),
        }

    def database(self) -> dict[str, str]:
        """Return what libpq reads."""
        return {
            "PGHOST": "127.0.0.1", "PGPORT": self._variables["PGPORT"], "PGDATABASE": "postgres",
            "PGUSER": self._described["server"]["environment"]["PGUSER"],
            "PGPASSWORD": self._secret("PGPASSWORD"),
        }  # fmt: skip

    def query(self, sql: str) -> list[str]:
        """Ask the database, and return a line for each row."""
        words = [str(postgres_commands() / "psql"), "-tAc", sql]
        return subprocess.check_output(words, env=self.database(), text=True).splitlines()

    def _secret(self, name: str) -> str:
        found: dict[str, str] = json.loads((self._project / ".mlflow/secrets.json").read_text())
        return found[name]


@contextmanager
def mlflow_stack(folder: Path, variables: Mapping[str, str]) -> Iterator[Stack]:
    """Run the tracking server of a project on a new Postgres and a new bucket."""
    state = Path(tempfile.mkdtemp(prefix="mlflow-"))  # not below pytest's: closed to Postgres
    state.chmod(0o755)
    stack = Stack(folder, variables, state)
    try:
        with stack.start_store() as objects:
            try:
                stack.start()
                yield stack
            finally:
                stack.stop()
                objects.terminate()
    finally:
        shutil.rmtree(state)


# Sees a request, as its method and path, and its headers, which it may change; what it returns is
# the status to answer with, or 0 to pass the request on.
Look = Callable[[ThreadingHTTPServer, str, dict[str, str]], int]


@contextmanager
def relayed(stack: Stack, look: Look) -> Iterator[str]:
    """Pass requests on to a server, once each has been looked at."""
    address = stack.address.removeprefix("http://")

    class Proxy(BaseHTTPRequestHandler):
        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = dict(self.headers)
            refused = look(server, f"{self.command} {self.path}", headers)
            if refused:
                self.answer(refused, [], b"refused by the proxy")
                return
            try:
                with closing(HTTPConnection(address, timeout=60)) as onward:
                    onward.request(self.command, self.path, body, headers)
                    answer = onward.getresponse()
                    content = answer.read()
            except (OSError, HTTPException):
                return  # which closes the connection
            self.answer(answer.status, answer.getheaders(), content)

        def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in {"transfer-encoding", "content-length", "connection"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = relay  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def dying(stack: Stack, at: str) -> Iterator[str]:
    """Pass requests on to a server; kill it instead when one matches, and stop listening."""
    died = threading.Event()

    def look(server: ThreadingHTTPServer, asked: str, _: dict[str, str]) -> int:
        if re.search(at, asked) and not died.is_set():
            died.set()
            stack.kill()
            server.shutdown()
            server.socket.close()
        return 0

    with relayed(stack, look) as address:
        yield address


FIRST, FRESH = ({"MLFLOW_TRACKING_TOKEN": word} for word in ("the-first", "a-fresh-one"))


@contextmanager
def expiring(stack: Stack, at: str) -> Iterator[str]:
    """Let a token in, as a proxy that knows tokens does; from a request on, another one alone."""
    login = stack.login()
    named = f"{login['MLFLOW_TRACKING_USERNAME']}:{login['MLFLOW_TRACKING_PASSWORD']}"
    expired = threading.Event()

    def look(_: ThreadingHTTPServer, asked: str, headers: dict[str, str]) -> int:
        if re.search(at, asked):
            expired.set()
        known = FRESH if expired.is_set() else FIRST
        if headers.get("Authorization") != f"Bearer {known['MLFLOW_TRACKING_TOKEN']}":
            return 401
        headers["Authorization"] = f"Basic {base64.b64encode(named.encode()).decode()}"
        return 0

    with relayed(stack, look) as address:
        yield address


@contextmanager
def mlflow_server(folder: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """Run MLflow's own server on a file beside a project, without logins, and give its address."""
    address = f"http://127.0.0.1:{free_port()}"
    words = [
        *("uv", "run", "--no-sync", "mlflow", "server", "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", (folder / "artifacts").as_uri()),
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
    try:
        wait(page, START_SECONDS, lambda: process.poll() is None)
    except OSError:
        sys.stderr.write(log.read_text())
        raise TimeoutError(f"{page} does not answer") from None
