"""The images of a deployed project: built, pushed, pulled by digest, and run as platforms run them.

The Dockerfile, `make` and the release's own code are the project's, unchanged. The builder and the
platform are two machines that share nothing but a registry; see containers.py for what plays them.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import containers
import pytest
import yaml
from conftest import Render, git, project_environment
from containers import Bench, Docker
from matrix import CHOICES
from registries import free_port, mlflow_server, wait
from test_executed import INSIDE, INSTANCES, OFFLINE, PACKAGE, Executed, as_exported, ask

BIN = Path(sys.executable).parent
CLOUDS = [cloud for cloud in CHOICES["cloud"] if cloud != "none"]
READY_SECONDS = 120
MEMORY = 512 * 2**20
COMPRESSED_BYTES = 200e6
USER = 10001
YOURS = "tabulate"  # what a service's own route may need, and nothing else brings
TMP = "/tmp"  # noqa: S108  (the container's own)
MEBI = 2**20
# Each version of cgroups has names of its own for what a container may use, and has used.
READ_LIMITS = """
import json, pathlib
found = {}
for name, places in {
    "memory": ["memory.max", "memory/memory.limit_in_bytes"],
    "peak": ["memory.peak", "memory/memory.max_usage_in_bytes"],
    "cpu": ["cpu.max", "cpu/cpu.cfs_quota_us"],
}.items():
    for place in places:
        path = pathlib.Path("/sys/fs/cgroup") / place
        if path.exists():
            found[name] = int(path.read_text().split()[0])
print(json.dumps(found))
"""
TRY_TO_WRITE = """
import pathlib, sys
for place in sys.argv[1:]:
    try:
        (pathlib.Path(place) / "written").write_text("x")
    except OSError as error:
        print(place, error.strerror)
    else:
        print(place, "written")
"""
LIST_INSTALLED = """
import importlib.metadata, json
print(json.dumps({each.name: each.version for each in importlib.metadata.distributions()}))
"""


@pytest.mark.parametrize("cloud", CLOUDS)
def test_dockerfile_lints(cloud: str, render: Render) -> None:
    dockerfile = render(cloud=cloud) / "deploy" / "Dockerfile"
    done = subprocess.run(
        [BIN / "hadolint", "--no-color", dockerfile], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_the_service_needs_of_yours_is_installed_and_listed(
    cloud: str, render: Render
) -> None:
    """pyproject.toml promises it of the group extra-serving."""
    project = render(cloud=cloud)
    recipes = "".join(
        (project / "deploy" / name).read_text() for name in ("Dockerfile", "release.mk")
    )
    chosen = re.findall(r"(?:uv|\$\(UV\)) (?:sync|export) .*--no-default-groups.*", recipes)
    assert len(chosen) == 4
    assert [line for line in chosen if "--group extra-serving " not in line] == []


@pytest.mark.parametrize("cloud", CLOUDS)
def test_recipe_of_the_tracking_server_lints(cloud: str, render: Render) -> None:
    """What compose.yaml builds, with what the cloud adds; `make mlflow-image` joins them."""
    described = render(cloud=cloud, tracking="server") / "deploy" / "mlflow"
    services = yaml.safe_load((described / "compose.yaml").read_text())["services"]
    inline = services["server"]["build"]["dockerfile_inline"]
    recipe = f"{inline}\n{(described / 'cloud.Dockerfile').read_text()}"
    done = subprocess.run(
        [BIN / "hadolint", "--no-color", "--failure-threshold=warning", "-"],
        input=recipe, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


executed = [pytest.mark.executed, pytest.mark.xdist_group("image")]


def image_test(function: Any) -> Any:
    """Mark a test that builds or runs an image; all of them share one worker."""
    for mark in executed:
        function = mark(function)
    return function


@dataclass
class Registered:
    """A project with a version in the production of an MLflow server, and its bundle."""

    project: Executed
    bench: Bench
    mlflow: str

    @property
    def repository(self) -> str:
        return f"{self.bench.registry}/flights/{PACKAGE}"

    def push(self, target: str) -> str:
        """Build and push an image, unless the registry has it; return its name by digest."""
        commit = git(self.project.path, "rev-parse", "HEAD").strip()
        words = [str(INSIDE / "push.py"), PACKAGE, self.repository, commit, target]
        return self.project.python(*words).strip()

    def offline(self) -> Any:
        """Return what the trained model itself predicts, before it was exported."""
        words = [str(OFFLINE), PACKAGE]
        return as_exported(json.loads(self.project.python(*words, given=json.dumps(INSTANCES))))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    problem = containers.lacking()
    if problem is not None:
        pytest.skip(f"NO IMAGE WAS BUILT OR RUN: {problem}")
    with containers.bench() as found:
        yield found


@pytest.fixture(scope="module")
def registered(
    bench: Bench, render: Render, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registered]:
    """Train and promote against a server, as where there are images there is a shared registry."""
    folder = tmp_path_factory.mktemp("image")
    answers = {"task": "regression", "cloud": "cloud-run"}
    path = Path(shutil.copytree(render(**answers), folder / "project"))
    variables = project_environment(path, folder)
    variables["PATH"] = bench.builds.first_in(variables["PATH"])
    git(path, "init", "--quiet", "--initial-branch=main")
    project = Executed(path, answers, variables)
    project.run("uv", "add", "--quiet", "--no-sync", "--group", "extra-serving", YOURS)
    project.run("uv", "sync", "--quiet", "--no-group", "dev")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message", "As rendered, with its lock")
    with mlflow_server(folder, variables) as address:
        variables["MLFLOW_TRACKING_URI"] = address
        project.run("make", "run", "promote", "bundle")
        base = bench.make_base_images((path / "deploy" / "Dockerfile").read_text())
        tried = bench.builds.attempt("run", "--rm", *limits(project), base, "python", "--version")
        if tried.returncode:
            pytest.skip(f"NO IMAGE WAS RUN WITH LIMITS: this machine refuses them: {tried.stderr}")
        yield Registered(project, bench, address)
    containers.remove(folder)


@dataclass
class Container:
    """An image that runs as a platform runs it."""

    docker: Docker
    name: str
    address: str
    ready_seconds: float

    def python(self, *words: str) -> str:
        return self.docker("exec", self.name, "python", "-c", *words)

    def get(self, path: str, body: object = None) -> Any:
        return ask(self.address + path, body)


def limits(project: Executed) -> list[str]:
    """Return how the project's `make image-smoke` runs an image: one home for the rules."""
    code = f"import json; from {PACKAGE}.release.trial import LIMITS; print(json.dumps(LIMITS))"
    found: list[str] = json.loads(project.python("-c", code))
    return found


@contextmanager
def running(docker: Docker, name: str, words: list[str], port: int) -> Iterator[Container]:
    """Run a container until it is ready, and remove it."""
    started = time.monotonic()
    docker("run", "--detach", f"--name={name}", *words)
    address = f"http://127.0.0.1:{port}"
    try:
        try:
            pid = docker("inspect", "--format={{.State.Pid}}", name)
            alive = Path(f"/proc/{pid}/root").exists
            wait(f"{address}/readyz", READY_SECONDS, alive)
        except OSError as error:
            said = docker.attempt("logs", name)
            pytest.fail(f"{name} is not ready: {error}\n{said.stdout}\n{said.stderr}")
        yield Container(docker, name, address, time.monotonic() - started)
    finally:
        docker.attempt("rm", "--force", "--time=0", name)


@pytest.fixture(scope="module")
def baked(registered: Registered) -> str:
    """Return the name, by digest, of the image that holds the model."""
    return registered.push("baked")


@pytest.fixture(scope="module")
def service(registered: Registered, baked: str) -> Iterator[Container]:
    """Run the image, with its predictions logged, until it is told to stop."""
    docker, port = registered.bench.runs, free_port()
    docker("pull", "--quiet", baked)
    words = [*limits(registered.project), f"--publish=127.0.0.1:{port}:8080"]
    with running(docker, "service", [*words, "--env=PREDICTION_LOG=-", baked], port) as found:
        yield found


@image_test
def test_image_is_pushed_and_named_by_its_digest(
    registered: Registered, baked: str, record_property: Any
) -> None:
    assert baked.startswith(f"{registered.repository}@sha256:")
    content, manifest = registered.bench.manifest(baked)
    assert baked.endswith(f"@sha256:{sha256(content).hexdigest()}")
    size = sum(layer["size"] for layer in manifest["layers"])
    record_property("image, compressed", f"{size / MEBI:.0f} MiB")
    assert size < COMPRESSED_BYTES
    assert registered.push("baked") == baked


@image_test
def test_platform_that_has_nothing_pulls_it_by_digest_and_it_passes_its_smoke_test(
    registered: Registered, baked: str
) -> None:
    platform = registered.bench.runs
    assert platform("images", "--quiet") == ""
    project = registered.project
    path = platform.first_in(project.variables["PATH"])
    there = Executed(project.path, project.answers, {**project.variables, "PATH": path})
    said = there.run("make", "--silent", "image-smoke", f"IMAGE={baked}")
    assert json.loads(said) == {"answers": baked}
    assert platform("ps", "--all", "--quiet") == ""


@image_test
def test_baked_model_predicts_what_the_trained_one_does(
    registered: Registered, service: Container, record_property: Any
) -> None:
    record_property("from `docker run` to ready", f"{service.ready_seconds:.1f} s, 1 CPU")
    answer = service.get("/predict", {"instances": INSTANCES})
    assert answer["predictions"] == registered.offline()
    assert answer["model"] == {"name": PACKAGE, "version": "1"}


@image_test
def test_image_says_what_it_was_built_from(
    registered: Registered, service: Container, baked: str
) -> None:
    (image,) = json.loads(service.docker("image", "inspect", baked))
    labels = image["Labels"]
    commit = git(registered.project.path, "rev-parse", "HEAD").strip()
    assert labels["org.opencontainers.image.revision"] == commit
    assert labels["model.version"] == service.get("/version")["model_version"]


@image_test
def test_service_has_what_its_own_routes_need(service: Container) -> None:
    assert YOURS in service.python(f"import {YOURS}; print({YOURS}.__file__)")


@image_test
def test_service_is_nobody_and_has_no_rights(service: Container) -> None:
    pid = service.docker("inspect", "--format={{.State.Pid}}", service.name)
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert status["Uid"].split() == status["Gid"].split() == [str(USER)] * 4
    for held in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[held], 16) == 0, held
    assert status["NoNewPrivs"].strip() == "1"


@image_test
def test_service_can_write_to_tmp_alone(service: Container) -> None:
    site = service.python("import uvicorn, os; print(os.path.dirname(uvicorn.__file__))")
    places = ["/", "/app", "/app/bundle", site, TMP]
    told = [line.partition(" ")[2] for line in service.python(TRY_TO_WRITE, *places).splitlines()]
    assert told == [*["Read-only file system"] * 4, "written"]


@image_test
def test_service_stays_within_512_megabytes_and_one_cpu(
    service: Container, record_property: Any
) -> None:
    for _ in range(5):
        service.get("/predict", {"instances": INSTANCES * 10})
    found = json.loads(service.python(READ_LIMITS))
    assert found["memory"] == MEMORY
    assert found["cpu"] == 100_000  # of a period of 100,000 microseconds
    record_property("memory at most", f"{found['peak'] / MEBI:.0f} MiB of 512")
    assert found["peak"] < MEMORY


@image_test
def test_platform_kills_what_takes_more_memory(
    registered: Registered, service: Container, baked: str
) -> None:
    """Else the test above would measure a limit that nobody enforces."""
    words = ["run", "--rm", *limits(registered.project), baked, "python", "-c"]
    assert service.docker.attempt(*words, "bytearray(300 << 20)").returncode == 0
    assert service.docker.attempt(*words, "bytearray(700 << 20)").returncode == 137


@image_test
def test_health_check_of_the_dockerfile_passes(registered: Registered, service: Container) -> None:
    dockerfile = (registered.project.path / "deploy" / "Dockerfile").read_text()
    found = re.search(r"HEALTHCHECK .*\\\n\s+CMD (.*)", dockerfile)
    assert found is not None
    words = json.loads(found[1].replace("\\$", "$"))
    service.docker("exec", service.name, *words)
    without = service.docker.attempt("exec", "--env=PORT=1", service.name, *words)
    assert without.returncode == 1


@image_test
def test_sbom_lists_what_the_image_installs(registered: Registered, service: Container) -> None:
    registered.project.run("make", "sbom")
    written = json.loads((registered.project.path / "sbom.json").read_text())
    assert written["bomFormat"] == "CycloneDX"
    # A lock may hold a package in two versions, for two versions of Python.
    listed = {(each["name"], each["version"]) for each in written["components"]}
    found: dict[str, str] = json.loads(service.python(LIST_INSTALLED))
    installed = {(re.sub(r"[-_.]+", "-", name).lower(), found[name]) for name in found}
    project = {each for each in installed if each[0] == PACKAGE.replace("_", "-")}
    assert len(project) == 1
    assert installed - project <= listed
    assert {name for name, _ in installed - project} == {name for name, _ in listed}


@image_test
def test_monitoring_image_reads_what_the_service_logged(
    registered: Registered, service: Container, tmp_path: Path
) -> None:
    """It writes to /tmp alone, as nobody, and knows the model from the registry."""
    docker, project = registered.bench.builds, registered.project
    words = ["--file", "deploy/Dockerfile", "--target", "monitoring", "--tag", "monitoring:local"]
    project.run("docker", "build", "--quiet", *words, ".")
    service.get("/predict", {"instances": INSTANCES})
    folder = tmp_path / "predictions"
    folder.mkdir(mode=0o755)
    (folder / "today.jsonl").write_text(service.docker("logs", service.name))
    environment = {"MLFLOW_TRACKING_URI": registered.mlflow, "PREDICTION_LOG": "/predictions"}
    done = docker.attempt(
        *("run", "--rm", "--network=host", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"),
        *(f"--env={name}={value}" for name, value in environment.items()),
        *(f"--volume={folder}:/predictions:ro", "monitoring:local"),
    )
    assert done.returncode in {10, 11}, done.stderr
    told = re.search(r" version (\d+), .*\n +([\d,]+) predictions against ", done.stdout)
    assert told, done.stdout
    assert told[1] == "1"
    assert int(told[2].replace(",", "")) >= len(INSTANCES)


@image_test
def test_image_without_a_model_takes_it_from_the_registry_when_it_starts(
    registered: Registered, record_property: Any
) -> None:
    image, port = registered.push("registry"), free_port()
    docker = registered.bench.runs
    docker("pull", "--quiet", image)
    words = [
        *limits(registered.project), "--network=host", f"--env=PORT={port}",
        f"--env=MLFLOW_TRACKING_URI={registered.mlflow}", image,
    ]  # fmt: skip
    with running(docker, "fetches", words, port) as found:
        record_property("the same, model from the registry", f"{found.ready_seconds:.1f} s, 1 CPU")
        assert found.python("import os; print(os.path.exists('/app/bundle'))") == "False"
        recorded = json.loads((registered.project.path / "bundle/version.json").read_text())
        assert found.get("/version")["bundle_sha256"] == recorded["bundle_sha256"]
        answer = found.get("/predict", {"instances": INSTANCES})
        assert answer["predictions"] == registered.offline()


@image_test
def test_service_answers_what_it_began_and_stops_when_told(service: Container) -> None:
    body = json.dumps({"instances": INSTANCES}).encode()
    port = int(service.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[:10])
        time.sleep(0.5)
        service.docker("kill", "--signal=TERM", service.name)
        time.sleep(1)
        client.sendall(body[10:])
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert service.docker("wait", service.name) == "0"
    with pytest.raises(OSError, match=r"refused|reset"):
        service.get("/healthz")
