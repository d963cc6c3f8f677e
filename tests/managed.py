"""What managed backends are played with: a proxy before a real MLflow server, that remembers."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

TRACKING = "/api/2.0/mlflow/"
JSON = {"Content-Type": "application/json"}
NO_CONTENT = 204
Answer = dict[str, Any]


class RefusedError(Exception):
    """An error as the service tells it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Request:
    """What a client asked; header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Answer:
        """What its JSON means; empty where it has none."""
        found: Answer = json.loads(self.content) if self.content.startswith(b"{") else {}
        return found


@dataclass
class Played:
    """A service that is played, and every request it was sent."""

    server: str  # the address of the MLflow server behind it
    address: str = ""
    requests: list[Request] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def asked(self, pattern: str) -> list[Request]:
        """Return the requests whose method and path match."""
        return [r for r in self.requests if re.search(pattern, f"{r.method} {r.path}")]


class Handler(BaseHTTPRequestHandler):
    """Answers what is played, and lets MLflow's server answer the rest."""

    played: Any
    protocol_version = "HTTP/1.1"

    def play(self, request: Request) -> bool:
        """Answer a request, or return that it is to be passed on."""
        raise NotImplementedError

    def location(self, request: Request) -> str:
        """Return where the files of a new experiment are."""
        raise NotImplementedError

    def refuse(self, request: Request, refusal: RefusedError) -> None:
        """Tell an error."""
        del request
        self.say(refusal.status, {"error_code": refusal.code, "message": str(refusal)})

    def answer(self) -> None:
        url = urlsplit(self.path)
        request = Request(
            self.command, unquote(url.path),
            {name: values[-1] for name, values in parse_qs(url.query).items()},
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(int(self.headers.get("Content-Length") or 0)),
        )  # fmt: skip
        try:
            with self.played.lock:
                self.played.requests.append(request)
                done = self.play(request)
            if not done:
                self.pass_on(request)
        except RefusedError as refusal:
            self.refuse(request, refusal)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer  # noqa: N815

    def pass_on(self, request: Request) -> None:
        content = request.content
        if request.path == f"{TRACKING}experiments/create":
            given = {**request.body, "artifact_location": self.location(request)}
            content = json.dumps(given).encode()
        address = self.played.server.removeprefix("http://")
        with closing(HTTPConnection(address, timeout=60)) as onward:
            onward.request(self.command, self.path, content, JSON)
            told = onward.getresponse()
            body = told.read()
        self.send(told.status, self.rewritten(body), {"Content-Type": told.headers["Content-Type"]})

    def rewritten(self, body: bytes) -> bytes:
        """Return what the server said as the service would."""
        return body

    def say(self, status: int, told: Answer) -> bool:
        self.send(status, json.dumps(told).encode(), JSON)
        return True

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        body = b"" if status == NO_CONTENT else body
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


PlayedT = TypeVar("PlayedT", bound=Played)


@contextmanager
def listening(played: PlayedT, handler: type[Handler]) -> Iterator[PlayedT]:
    """Play a service on a free port."""
    bound = type("Bound", (handler,), {"played": played})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    played.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield played
    finally:
        server.shutdown()
        server.server_close()
