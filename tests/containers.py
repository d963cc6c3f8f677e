"""Build and run images without a Docker daemon: buildah and runc, as root, on stand-in bases.

The public base images are on registries that a test machine may not reach, so their stand-ins are
made from Debian's packages and uv's wheel and passed through the Dockerfile's own build arguments.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uv

TOOLS = ("buildah", "runc", "mmdebstrap", "docker-registry")
PYTHON_IMAGE = "localhost/python:debian"
UV_IMAGE = "localhost/uv:wheel"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# How this machine reaches its package index; the public base image needs none of it.
PASSED_ON = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
SUITE = "bookworm"
CPU_PERIOD = 100_000


def why_not() -> str:
    """Return why this machine cannot build and run containers, or nothing if it can."""
    if os.geteuid() != 0:
        return "building and running containers here needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"the kernel forbids containers: {done.stderr.strip()}" if done.returncode else ""


def call(*words: str | Path) -> str:
    """Run a command and return what it prints; what it says is in the error if it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(
            f"{' '.join(map(str, words))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Store:
    """Images and containers in a folder of their own."""

    folder: Path
    driver: str = "overlay"

    def buildah(self, *words: str | Path) -> str:
        where = ("--root", self.folder / "images", "--runroot", self.folder / "run")
        policy = self.folder / "policy.json"
        options = ("--storage-driver", self.driver, "--signature-policy", policy)
        command = words[0]
        rest = words[1:]
        if command in {"bud", "pull", "push", "from"}:
            return call("buildah", *where, *options[:2], command, *options[2:], *rest)
        return call("buildah", *where, *options[:2], *words)

    def prepare(self) -> None:
        """Make the two base images."""
        self.folder.mkdir(parents=True, exist_ok=True)
        policy = {"default": [{"type": "insecureAcceptAnything"}]}
        (self.folder / "policy.json").write_text(json.dumps(policy))
        self._python()
        self._uv()

    def _python(self) -> None:
        context = self.folder / "base"
        context.mkdir()
        call(
            "mmdebstrap", "--quiet", "--variant=minbase",
            "--include=ca-certificates,python3,python3-venv,netbase",
            "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            SUITE, context / "base.tar",
        )  # fmt: skip
        shutil.copy(CERTIFICATES, context / "certificates.crt")
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        variables = "".join(f"ENV {k}={json.dumps(v)}\n" for k, v in passed_on.items())
        (context / "Containerfile").write_text(
            "FROM scratch\nADD base.tar /\n"
            f"COPY certificates.crt {CERTIFICATES}\n"
            f"ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SSL_CERT_FILE={CERTIFICATES}\n"
            f"{variables}RUN ln -s /usr/bin/python3 /usr/local/bin/python\n"
        )
        self.build(context, PYTHON_IMAGE, file=context / "Containerfile")
        (context / "base.tar").unlink()

    def _uv(self) -> None:
        context = self.folder / "uv"
        context.mkdir()
        shutil.copy(uv.find_uv_bin(), context / "uv")
        (context / "Containerfile").write_text("FROM scratch\nCOPY uv /uv\n")
        self.build(context, UV_IMAGE, file=context / "Containerfile")

    def build(self, context: Path, tag: str, *options: str, file: Path) -> None:
        self.buildah(
            "bud", "--quiet", "--isolation", "chroot", "--network", "host", "--format", "docker",
            "--layers", "--tag", tag, "--file", file, *options, context,
        )  # fmt: skip

    @contextlib.contextmanager
    def mounted(self, image: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Give an image's files and configuration."""
        container = self.buildah("from", "--pull-never", image).strip()
        try:
            config = json.loads(self.buildah("inspect", "--type", "container", container))
            yield Path(self.buildah("mount", container).strip()), config["Docker"]["config"]
        finally:
            self.buildah("rm", container)


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run a registry and give its address."""
    folder.mkdir()
    address = f"127.0.0.1:{free_port()}"
    config = folder / "config.yml"
    storage = {"filesystem": {"rootdirectory": str(folder / "data")}}
    log = {"accesslog": {"disabled": True}, "level": "error"}
    config.write_text(
        json.dumps({"version": 0.1, "log": log, "storage": storage, "http": {"addr": address}})
    )
    process = subprocess.Popen(["docker-registry", "serve", config], stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://{address}/v2/", 20)
        yield address
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str, seconds: float) -> float:
    """Return after how many seconds an address answers 200."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310  (our own address)
                return time.monotonic() - started
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} did not answer within {seconds} s")


@dataclass
class Limits:
    """What a platform gives a container."""

    memory: int = 512 * 1024 * 1024
    cpus: float = 1.0


@dataclass
class Container:
    """A running container, on the host's network."""

    name: str
    root: Path
    process: "subprocess.Popen[bytes]"
    output: Path
    started: float = field(default_factory=time.monotonic)

    def stop(self, seconds: float) -> int:
        """Send SIGTERM as a platform does, and return the exit code."""
        call("runc", "--root", self.root, "kill", self.name, "TERM")
        return self.process.wait(seconds)


@contextlib.contextmanager
def running(
    store: Store, image: str, variables: Mapping[str, str], limits: Limits | None = None
) -> Iterator[Container]:
    """Run an image read-only, as its own user, without capabilities and within limits."""
    with store.mounted(image) as (files, config), tempfile.TemporaryDirectory() as scratch:
        bundle, name = Path(scratch), f"test-{os.getpid()}-{time.monotonic_ns()}"
        spec = specification(files, config, variables, limits or Limits())
        (bundle / "config.json").write_text(json.dumps(spec))
        root, output = bundle / "runc", bundle / "output"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                ["runc", "--root", root, "run", "--bundle", bundle, name],
                stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        try:
            yield Container(name, root, process, output)
        finally:
            subprocess.run(
                ["runc", "--root", root, "delete", "--force", name],
                capture_output=True,
                check=False,
            )
            process.send_signal(signal.SIGKILL)
            process.wait()


def specification(
    files: Path, config: Mapping[str, Any], variables: Mapping[str, str], limits: Limits
) -> dict[str, Any]:
    """Return what runc reads: the image's command, under the rules of a serverless platform."""
    own = dict(entry.split("=", 1) for entry in config["Env"])
    user, group = map(int, config["User"].split(":"))
    command = [*(config.get("Entrypoint") or []), *config["Cmd"]]
    quota = int(limits.cpus * CPU_PERIOD)
    tmpfs = ["nosuid", "nodev", "mode=1777", "size=64m"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": user, "gid": group},
            "args": command,
            "env": [f"{k}={v}" for k, v in {**own, **variables}.items()],
            "cwd": config["WorkingDir"],
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "root": {"path": str(files), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": tmpfs},  # noqa: S108
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "resources": {
                "memory": {"limit": limits.memory},
                "cpu": {"quota": quota, "period": CPU_PERIOD},
            },
        },
    }  # fmt: skip
