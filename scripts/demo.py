"""Render a project, train, promote and serve its model, and ask it for a prediction.

Usage: python scripts/demo.py [QUESTION=ANSWER ...]

The project stays in a scratch folder to look at; its server is stopped.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import copier
from copier.errors import CopierError, DirtyLocalWarning
from package_index import UnreachableIndexError, environment
from questions import TEMPLATE, UnknownQuestionError, refuse_unknown

STEPS = 6
START_SECONDS = 120
STOP_SECONDS = 15
# The project's own settings, and what the make and the environment around us would hand down.
NOT_INHERITED = (
    "CI", "HOST", "MAKE", "MFLAGS", "MLFLOW_", "MODEL_", "PORT", "PYTHON", "VIRTUAL_ENV",
)  # fmt: skip


class DemoError(Exception):
    """The demo cannot go on; the message is the line to print."""


def parse(words: Sequence[str]) -> dict[str, str]:
    """Read QUESTION=ANSWER words."""
    for word in words:
        if "=" not in word:
            raise DemoError(f"{word!r} is no answer; write it as question=answer")
    answers = dict(word.split("=", 1) for word in words)
    try:
        refuse_unknown(answers)
    except UnknownQuestionError as error:
        raise DemoError(str(error)) from None
    return answers


def render(project: Path, answers: Mapping[str, str]) -> None:
    """Render this checkout, uncommitted changes included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DirtyLocalWarning)
        try:
            copier.run_copy(
                str(TEMPLATE), project, data=dict(answers), defaults=True, quiet=True,
                vcs_ref="HEAD",
            )  # fmt: skip
        except (CopierError, ValueError) as error:
            raise DemoError(" ".join(str(error).split())) from None


def child_environment(project: Path, scratch: Path) -> dict[str, str]:
    """Return the environment of the project's commands: ours, with uv and without our settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(NOT_INHERITED)}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    try:
        return {**kept, **environment(project, scratch), "PATH": path}
    except UnreachableIndexError as error:
        raise DemoError(str(error)) from None


@contextmanager
def step(number: int, title: str, *, announce: bool = True) -> Iterator[None]:
    """Print what is being done, then how long it took; unannounced, print both once it is done."""
    line = f"[{number}/{STEPS}] {title:<48}"
    if announce:
        print(line, end="", flush=True)
    started = time.perf_counter()
    try:
        yield
    except BaseException:
        print(end="\n" if announce else "", flush=True)
        raise
    took = time.perf_counter() - started
    print(f"{'' if announce else line}{took:7.1f} s", flush=True)


def make(target: str, project: Path, log: Path, variables: Mapping[str, str]) -> None:
    """Run one of the project's make targets."""
    with log.open("w") as out:
        done = subprocess.run(
            ["make", target], cwd=project, env=dict(variables), stdin=subprocess.DEVNULL,
            stdout=out, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    if done.returncode:
        raise DemoError(f"`make {target}` failed: {said_last(log)} (all of it is in {log})")


def said_last(log: Path) -> str:
    """Return the last line that a command, rather than make, wrote."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line.strip() for line in lines if line.strip() and not line.startswith("make")]
    return told[-1] if told else "it printed nothing"


@contextmanager
def serving(project: Path, log: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """Run `make serve` on a free port and yield its address; stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("w") as out:
        server = subprocess.Popen(
            ["make", "serve"], cwd=project, env={**variables, "PORT": str(port)},
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until_ready(server, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(server)


def wait_until_ready(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Return once /readyz answers 200."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoError(f"the service stopped: {said_last(log)} (all of it is in {log})")
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=5):  # noqa: S310
                return
        except OSError:
            time.sleep(0.2)
    raise DemoError(f"the service was not ready after {START_SECONDS} s; see {log}")


def stop(server: subprocess.Popen[bytes]) -> None:
    """Ask the server's process group to end, and insist if it does not."""
    for demand in (signal.SIGTERM, signal.SIGKILL):
        if server.poll() is None:
            os.killpg(server.pid, demand)
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue


def ask(address: str) -> tuple[Any, Any]:
    """Send the example that the service documents, and return it with the answer."""
    with urllib.request.urlopen(f"{address}/openapi.json", timeout=30) as page:  # noqa: S310
        operation = json.load(page)["paths"]["/predict"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]["example"]
    request = urllib.request.Request(  # noqa: S310  (the server we started)
        f"{address}/predict", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as page:  # noqa: S310
            return body, json.load(page)
    except urllib.error.HTTPError as error:
        raise DemoError(f"/predict answered {error.code} to its own example") from None


def run(answers: Mapping[str, str], scratch: Path) -> None:
    """Do the six steps in a scratch folder."""
    project, logs = scratch / "project", scratch / "logs"
    # Copier refuses a wrong answer here, and one line is then all there is to say.
    with step(1, "render the template", announce=False):
        render(project, answers)
    logs.mkdir()
    variables = child_environment(project, scratch)
    commands = {
        "install": "install the project (make install)",
        "run": "train and register a model (make run)",
        "promote": "promote it to production (make promote)",
    }
    for number, (target, title) in enumerate(commands.items(), start=2):
        with step(number, title):
            make(target, project, logs / f"{target}.log", variables)
    with ExitStack() as stack:
        with step(5, "serve it (make serve)"):
            service = serving(project, logs / "serve.log", variables)
            address = stack.enter_context(service)
        with step(6, "ask it for a prediction (POST /predict)"):
            body, answer = ask(address)
    show(project, body, answer)


def show(project: Path, body: Any, answer: Any) -> None:
    """Print the question, the answer, and where to look next."""
    print(f"\nasked     {json.dumps(body['instances'])}")
    print(f"answered  {json.dumps(answer)}\n")
    print(f"The project is in {project}. Look next at:")
    print("  README.md            the five commands, and which files are yours")
    print("  artifacts/evaluate   the plots of the model you just trained")
    print("  make serve           the API's page on http://127.0.0.1:8080/docs")
    print("  make ui              the run and the model version in MLflow")


def fail(message: str) -> NoReturn:
    """Print one line and leave."""
    print(f"demo: {message}", file=sys.stderr)
    sys.exit(1)


def main() -> None:
    """Run the demo with the answers on the command line."""
    scratch = Path(tempfile.mkdtemp(prefix="mlops-demo-"))
    try:
        run(parse(sys.argv[1:]), scratch)
    except DemoError as error:
        if not (scratch / "logs").exists():
            shutil.rmtree(scratch)
        fail(str(error))
    except KeyboardInterrupt:
        fail(f"interrupted; what there is is in {scratch}")


if __name__ == "__main__":
    main()
