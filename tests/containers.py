"""Build and run images without a daemon: podman plays Docker, on base images made of packages.

No public registry is asked. A base image's stand-in, of Debian's packages, gets the public name, so
a project's Dockerfile and commands run as they were rendered.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uv
from registries import free_port, wait

TOOLS = ("podman", "runc", "mmdebstrap", "docker-registry", "iptables")
SUITE = "bookworm"  # of the base image that the Dockerfile names
START_SECONDS = 60
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)

# runc, because crun refuses machines that have both versions of cgroups. Podman's own limits are
# higher than what root may set in a container.
ENGINE = """[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""
REGISTRIES = """unqualified-search-registries = []
[[registry]]
location = "{place}"
insecure = true
"""
REGISTRY = """version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "{place}"}}
"""
DOCKER = """#!/bin/sh
export CONTAINERS_CONF={folder}/containers.conf CONTAINERS_REGISTRIES_CONF={folder}/registries.conf
export TMPDIR={folder}/scratch
exec podman --root {folder}/{name}/store --runroot {folder}/{name}/run "$@"
"""
# What installs inside trusts whom this machine trusts, or nothing can be fetched behind a proxy.
PYTHON_BASE = """FROM scratch
ADD base.tar /
COPY certificates /etc/ssl/certs/ca-certificates.crt
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
RUN ln -s python3 /usr/bin/python
CMD ["python"]
"""
UV_BASE = "FROM scratch\nCOPY uv /\n"


def lacking() -> str | None:
    """Return what is missing here to build and run images, if anything is."""
    absent = [name for name in TOOLS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: apt-get install {' '.join(absent)})"
    if os.getuid() != 0:
        return "only root may limit memory and CPU, and make a base image of Debian's packages"
    return None


@dataclass(frozen=True)
class Docker:
    """A `docker` with images and containers of its own, as another machine has them."""

    folder: Path

    def attempt(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.folder / "docker", *words], capture_output=True, text=True, check=False
        )

    def __call__(self, *words: str) -> str:
        done = self.attempt(*words)
        assert done.returncode == 0, f"docker {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def first_in(self, path: str) -> str:
        """Return a PATH on which this is `docker`."""
        return f"{self.folder}{os.pathsep}{path}"


@dataclass(frozen=True)
class Bench:
    """Two machines, one that builds and one that runs, and the registry between them."""

    folder: Path
    builds: Docker
    runs: Docker
    registry: str
    debian: "subprocess.Popen[bytes]"

    def make_base_images(self, dockerfile: str) -> str:
        """Make what a Dockerfile starts from, under the names that it uses; return Python's."""
        names: dict[str, str] = dict(
            re.findall(r"(?m)^ARG (PYTHON_IMAGE|UV_IMAGE)=(\S+)$", dockerfile)
        )
        assert self.debian.wait() == 0, (self.folder / "base.log").read_text()
        context = self.folder / "context"
        shutil.copy2(CERTIFICATES, context / "certificates")
        shutil.copy2(uv.find_uv_bin(), context / "uv")
        for name, recipe in (("PYTHON_IMAGE", PYTHON_BASE), ("UV_IMAGE", UV_BASE)):
            path = self.folder / name
            path.write_text(recipe)
            words = ["--quiet", "--file", str(path), "--tag", names[name]]
            self.builds("build", *words, str(context))
        return names["PYTHON_IMAGE"]

    def manifest(self, image: str) -> tuple[bytes, dict[str, Any]]:
        """Return what the registry keeps under a name by digest: as bytes, and read."""
        repository, _, digest = image.partition("@")
        place, _, name = repository.partition("/")
        request = urllib.request.Request(
            f"http://{place}/v2/{name}/manifests/{digest}", headers={"Accept": MANIFESTS}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            content: bytes = answer.read()
        return content, json.loads(content)


@contextmanager
def bench() -> Iterator[Bench]:
    """Set up both machines and the registry; leave nothing of them."""
    # Not below pytest's folder: podman's sockets have room for a short path only.
    folder = Path(tempfile.mkdtemp(prefix="images-"))
    place = f"127.0.0.1:{free_port()}"
    (folder / "scratch").mkdir()
    (folder / "context").mkdir()
    (folder / "containers.conf").write_text(ENGINE)
    (folder / "registries.conf").write_text(REGISTRIES.format(place=place))
    builds, runs = (_docker(folder, name) for name in ("builds", "runs"))
    debian = _debian(folder)
    try:
        with _registry(folder, place):
            yield Bench(folder, builds, runs, place, debian)
    finally:
        debian.kill()
        debian.wait()
        for docker in (builds, runs):
            docker.attempt("rm", "--all", "--force", "--time=0")
        _unmount(folder)
        remove(folder)


def _docker(folder: Path, name: str) -> Docker:
    (folder / name).mkdir()
    command = folder / name / "docker"
    command.write_text(DOCKER.format(folder=folder, name=name))
    command.chmod(0o755)
    return Docker(folder / name)


def _debian(folder: Path) -> "subprocess.Popen[bytes]":
    """Begin to put together what the base image of Python stands on; it takes a minute."""
    unread = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc")]
    words = [
        *("mmdebstrap", "--variant=minbase", "--include=ca-certificates,python3", *unread),
        *("--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"'),
        *(SUITE, str(folder / "context" / "base.tar")),
    ]
    with (folder / "base.log").open("wb") as log:
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


@contextmanager
def _registry(folder: Path, place: str) -> Iterator[None]:
    settings = folder / "registry.yml"
    settings.write_text(REGISTRY.format(folder=folder / "registry", place=place))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(settings)], stdout=log, stderr=log
        )
    try:
        wait(f"http://{place}/v2/", START_SECONDS, lambda: process.poll() is None)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def remove(folder: Path) -> None:
    """Remove a folder in the background: some disks take minutes over so many files."""
    subprocess.run(["sh", "-c", 'rm -rf "$0" >/dev/null 2>&1 &', folder], check=True)


def _unmount(folder: Path) -> None:
    """Unmount what podman left mounted, the innermost first."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((each for each in mounts if each.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=False)
