"""Run the server that deploy/mlflow/compose.yaml describes, on this machine and without containers.

The same command, logins and Postgres; a folder stands for the bucket. What it keeps is in .mlflow/.
"""

import argparse
import fcntl
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "deploy" / "mlflow" / "compose.yaml"
STATE = ROOT / ".mlflow"
# Debian keeps the server's commands out of PATH, in a folder per version.
DEBIAN = Path("/usr/lib/postgresql")
DEFAULT = re.compile(r"\$\{\w+:-(.*)\}")  # ${NAME:-what it is otherwise}
SECRETS = ("PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY")


def stop(_signal: int, _frame: FrameType | None) -> None:
    """Turn SIGTERM into an exit, so that the database is stopped as well."""
    sys.exit(143)


def kept_secrets() -> dict[str, str]:
    """Return this machine's secrets, made the first time."""
    path = STATE / "secrets.json"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(json.dumps({name: secrets.token_hex(16) for name in SECRETS}) + "\n")
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def postgres_commands() -> Path:
    """Return the folder that holds initdb and pg_ctl."""
    found = sorted(DEBIAN.glob("*/bin/initdb"), reverse=True)
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        sys.exit("error: Postgres is not installed; Debian: apt-get install postgresql")
    return found[0].parent if found else Path(str(on_path)).parent


@contextmanager
def postgres(variables: Mapping[str, str]) -> Iterator[None]:
    """Run a Postgres in PGDATA, which is made the first time.

    One that runs already was left by a server that was killed.
    """
    commands, data = postgres_commands(), Path(variables["PGDATA"])
    # It refuses to run as root, which is who one is in a container.
    names = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    account = names.get("postgres", names["nobody"]) if os.getuid() == 0 else None

    def answer(*words: str) -> int:
        command = [str(commands / words[0]), "-D", str(data), *words[1:]]
        said, settings = subprocess.DEVNULL, dict(variables)
        return subprocess.call(command, user=account, cwd="/", stdout=said, env=settings)

    def run(*words: str) -> None:
        if answer(*words):
            sys.exit(f"error: {words[0]} failed for {data}; look at {data.parent / 'postgres.log'}")

    if not (data / "PG_VERSION").exists():
        data.parent.mkdir(parents=True, exist_ok=True)
        password = data.parent / "password"
        password.touch(mode=0o600)
        password.write_text(variables["PGPASSWORD"])
        if account is not None:
            os.chown(data.parent, account, -1)
            os.chown(password, account, -1)
        login = ["-U", variables["PGUSER"], "-A", "scram-sha-256", f"--pwfile={password}"]
        run("initdb", "-E", "UTF8", *login)
        password.unlink()
    options = f"-h 127.0.0.1 -p {variables['PGPORT']} -c unix_socket_directories=''"
    if answer("pg_ctl", "status"):
        run("pg_ctl", "-w", "-l", str(data.parent / "postgres.log"), "-o", options, "start")
    try:
        yield
    finally:
        run("pg_ctl", "-w", "-m", "fast", "stop")


@contextmanager
def alone() -> Iterator[None]:
    """Leave if another one runs in this folder: whichever stops first stops the database."""
    with (STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("error: another make mlflow runs in this folder; stop it first")
        yield


def command(described: Mapping[str, Any], port: str, artifacts: str) -> list[str]:
    """Return the command of compose.yaml, to answer this machine alone and keep files elsewhere."""
    changed = {"--host": "127.0.0.1", "--port": port, "--artifacts-destination": artifacts}
    words = list(described["command"])
    for option, value in changed.items():
        words[words.index(option) + 1] = value
    return [str(Path(sys.executable).with_name(words[0])), *words[1:]]


def environment(described: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of compose.yaml, those of this machine, and what was exported."""
    given = {k: DEFAULT.sub(r"\1", v) for k, v in described["environment"].items()}
    fixed = {k: v for k, v in given.items() if "$" not in v}
    own = {
        "PGHOST": "127.0.0.1",
        "PGPORT": "54320",
        "PGDATABASE": "postgres",
        "PGDATA": str(STATE / "postgres" / "data"),
        "MLFLOW_AUTH_CONFIG_PATH": str(COMPOSE.with_name("auth.ini")),
    }
    return {**fixed, **own, **kept_secrets(), **os.environ}


def serve(words: list[str], variables: Mapping[str, str], *, upgrade: bool) -> int:
    """Run the database and the server, and return how the server ended."""
    with alone(), postgres(variables):
        if upgrade:
            uri = words[words.index("--backend-store-uri") + 1]
            if subprocess.call([words[0], "db", "upgrade", uri], env=dict(variables)):
                sys.exit("error: the tables were not upgraded; what is above says why")
        with subprocess.Popen(words, env=dict(variables), cwd=STATE) as server:
            try:
                return server.wait()
            finally:
                server.terminate()
                server.wait()


def main() -> int:
    """Run the server until it is stopped."""
    parser = argparse.ArgumentParser(prog="mlflow_server.py", description=__doc__)
    parser.add_argument("--port", default="5000", help="the port it listens on")
    parser.add_argument("--artifacts", help="where files are kept, such as s3://BUCKET")
    parser.add_argument("--upgrade", action="store_true", help="bring the tables up to date first")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    (STATE / "artifacts").mkdir(parents=True, exist_ok=True)
    artifacts = chosen.artifacts or (STATE / "artifacts").as_uri()
    described = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["server"]
    variables = environment(described)
    print(f"http://127.0.0.1:{chosen.port}  user admin, password in {STATE / 'secrets.json'}")
    words = command(described, chosen.port, artifacts)
    try:
        return serve(words, variables, upgrade=chosen.upgrade)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
