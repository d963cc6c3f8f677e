"""A cloud in memory, whose revisions answer over HTTP as the service does."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ...release import journal
from ...release.interface import Cloud, CloudError, Endpoint, Observation
from ...release.manifest import Manifest, Model
from ...release.plan import CanaryStep, Plan
from ...release.program import Program

PLACEHOLDER = "placeholder"


class Killed(BaseException):
    """Nothing runs after it, as after SIGKILL: the memory cloud refuses every later call."""


@dataclass
class MemoryCloud:
    """What program.py needs of a cloud; `spoil` makes a call fail or do something first."""

    address: str
    environment: str = "production"
    weights: dict[str, int] = field(default_factory=lambda: {PLACEHOLDER: 100})
    manifests: dict[str, Manifest] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    observed: Observation = field(default_factory=lambda: Observation(100, 0))
    spoil: dict[str, Callable[[], None]] = field(default_factory=dict)
    dead: bool = False

    def call(self, name: str, *words: object) -> None:
        if self.dead:
            raise Killed
        self.calls.append(" ".join([name, *map(str, words)]))
        self.spoil.get(name, lambda: None)()

    def image_digest(self, repository: str, tag: str) -> str | None:
        self.call("image_digest", repository, tag)
        return self.images.get(tag)

    def live(self) -> str | None:
        self.call("live")
        return max(self.weights, key=lambda name: self.weights[name], default=None)

    def traffic(self) -> dict[str, int]:
        return {name: weight for name, weight in self.weights.items() if weight}

    def stage(self, manifest: Manifest) -> str:
        self.call("stage", manifest.release)
        self.manifests[manifest.release] = manifest
        return manifest.release

    def candidate(self, revision: str) -> Endpoint:
        return Endpoint(f"{self.address}/{revision}")

    def public(self) -> Endpoint:
        self.call("public")
        return Endpoint(f"{self.address}/public")

    def shift(self, revision: str, percent: int, stable: str) -> None:
        self.call("shift", revision, percent, stable)
        self.weights = {revision: percent, stable: 100 - percent}

    def promote(self, revision: str) -> None:
        self.call("promote", revision)
        self.weights = {revision: 100}

    def withdraw(self, revision: str | None, stable: str | None) -> None:
        self.call("withdraw", revision, stable)
        self.weights = {stable: 100} if stable else {}

    def observe(self, revision: str, since: datetime) -> Observation:
        self.call("observe", revision)
        assert since.tzinfo
        return self.observed

    def create(self, name: str, text: str) -> bool:
        self.call("create", name)
        return self.objects.setdefault(name, text) is text

    def read(self, name: str) -> str | None:
        return self.objects.get(name)

    def write(self, name: str, text: str) -> None:
        self.call("write", name)
        self.objects[name] = text

    def delete(self, name: str) -> None:
        self.call("delete", name)
        self.objects.pop(name, None)

    def what_happened(self) -> list[str]:
        return [event.what for event in reversed(journal.events(self))]

    def answer(self, revision: str, path: str, body: bytes) -> tuple[int, object]:
        """Answer as the service of a revision would."""
        if revision == "public":
            revision = max(self.weights, key=lambda name: self.weights[name])
        if revision in self.broken:
            return 500, {"detail": "broken"}
        if path == "/version":
            model = self.manifests[revision].model
            return 200, {"model_name": model.name, "model_version": model.version,
                         "bundle_sha256": model.bundle_sha256}  # fmt: skip
        if path == "/predict":
            return 200, {"predictions": [1.5] * len(json.loads(body)["instances"])}
        return 200, {"status": "ready"}


@contextlib.contextmanager
def answering(
    answer: Callable[[str, Message, bytes], tuple[int, object]],
) -> Iterator[str]:
    """Answer requests by a function of path, headers and body; give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = answer(self.path, self.headers, body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def cloud() -> Iterator[MemoryCloud]:
    """A cloud whose placeholder has all traffic."""

    def answer(path: str, _headers: object, body: bytes) -> tuple[int, object]:
        _, revision, rest = path.split("/", 2)
        return memory.answer(revision, f"/{rest}", body)

    with answering(answer) as address:
        memory = MemoryCloud(address)
        yield memory


PLAN = Plan(
    ready_seconds=0.01,
    look_seconds=30,
    max_error_share=0.01,
    canary=[CanaryStep(percent=10, minutes=1), CanaryStep(percent=50, minutes=1)],
)


@pytest.fixture
def program(cloud: MemoryCloud) -> Program:
    """The production program, in which no time passes."""
    return Program(cloud, PLAN, report=lambda _line: None, wait=lambda _seconds: None)


def release(number: int) -> Manifest:
    """Return the manifest of the release of a model's version."""
    digest = f"{number:x}" * 64
    model = Model(name="example", version=str(number), bundle_sha256=digest)
    name = f"r2026010203040{number}-{digest[:8]}"
    image = f"registry.example/app@sha256:{digest}"
    return Manifest(format=1, release=name, model=model, image=image, code="c" * 40)


def kill(cloud: MemoryCloud) -> Callable[[], None]:
    """Return what ends the process at a call."""

    def ended() -> None:
        cloud.dead = True
        raise Killed

    return ended


def fail() -> None:
    """End a call as a cloud does that went back by itself."""
    raise CloudError("the deployment was rolled back by the circuit breaker")


def expect_errors(cloud: Cloud, match: str) -> None:
    """See that no call takes an error for absence."""
    for call in (
        lambda: cloud.read(journal.LOCK),
        lambda: cloud.create(journal.LOCK, ""),
        lambda: cloud.delete(journal.LOCK),
        lambda: cloud.image_digest("1.registry.example/app", "tag"),
        lambda: cloud.observe("revision", datetime.now(UTC)),
    ):
        with pytest.raises(CloudError, match=match):
            call()
