"""What stands between a connection and the routes: request ids, the log, keys, time and room."""

import hmac
import logging
import os
import re
from base64 import b64encode
from time import perf_counter, time
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..settings import Settings
from .observe import REJECTED, AccessLog, count_request
from .request import too_large

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}\Z")
WEBHOOK_SECONDS = 300.0
BODIES_AT_ONCE = 16  # of the largest size; what is parsed takes about ten times the memory
SMALLEST_BODY = 4096
CLIENT_LEFT = 499
# Asked every few seconds by platforms: in the metrics, but not in the log.
UNLOGGED = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
log = logging.getLogger(__name__)


class Guard:
    """Gives each request an id, and records how it was answered; an unforeseen error is a 500."""

    def __init__(self, app: ASGIApp, log_requests: bool) -> None:
        self._app = app
        self._log = AccessLog() if log_requests else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = perf_counter(), 0
        identity = request_id(scope)

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity)]
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        except ClientDisconnect:
            status = CLIENT_LEFT
        except Exception:
            log.exception("request %s failed", identity.decode())
            if not status:
                await JSONResponse({"detail": "internal error"}, 500)(scope, receive, tagged)
        self._record(scope, status, perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # Paths that no route has are one: a client could make up any number of them.
        route = getattr(scope.get("route"), "path", "other")
        count_request(route, status, seconds)
        if self._log and route not in UNLOGGED:
            identity = scope["state"]["request_id"]
            self._log.write(identity, scope["method"], scope["path"], status, seconds)


def request_id(scope: Scope) -> bytes:
    """Return the id that the client gave, or a new one where it gave none that fits a log."""
    given = dict(scope["headers"]).get(b"x-request-id", b"")
    identity: bytes = given if REQUEST_ID.match(given) else os.urandom(8).hex().encode()
    scope.setdefault("state", {})["request_id"] = identity.decode()
    return identity


class Room:
    """Admits requests while there is room for them, and refuses the others at once.

    Waiting costs memory and patience; a client that is refused may ask another instance.
    """

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_waiting
        self._largest = settings.max_body_bytes
        self._requests = 0
        self._bytes = 0

    def enter(self, request: Request) -> int:
        """Take a place for a request, and as many bytes as its body may have; return these.

        Raises
        ------
        HTTPException
            413 if the body is announced as too large, 503 if there is no room for it now.
        """
        announced = dict(request.scope["headers"]).get(b"content-length", b"")
        size = int(announced) if announced.isdigit() else self._largest
        if size > self._largest:
            raise too_large(self._largest)
        size = max(size, SMALLEST_BODY)
        full = self._bytes + size > BODIES_AT_ONCE * self._largest
        if self._requests >= self._most or (full and self._requests):
            raise overloaded("capacity")
        self._requests += 1
        self._bytes += size
        return size

    def leave(self, size: int) -> None:
        """Give back what `enter` took."""
        self._requests -= 1
        self._bytes -= size


def overloaded(reason: str) -> HTTPException:
    """Return the answer to a request that cannot be served now, and count it."""
    REJECTED.labels(reason).inc()
    return HTTPException(503, "too many requests at once; try again", {"retry-after": "1"})


def check_key(request: Request, keys: tuple[str, ...]) -> None:
    """Refuse a request without one of the keys, if there are any.

    Raises
    ------
    HTTPException
        401.
    """
    if not keys:
        return
    headers = request.headers
    given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    # Every key is compared, in constant time, so that timing tells neither which nor how much fits.
    if not sum(hmac.compare_digest(given.encode(), key.encode()) for key in keys):
        REJECTED.labels("key").inc()
        raise HTTPException(
            401, "send a valid key as X-API-Key or Bearer token", {"www-authenticate": "Bearer"}
        )


def check_signature(request: Request, body: bytes, secret: str) -> None:
    """Refuse a webhook that is not signed the way MLflow does, or is old.

    Raises
    ------
    HTTPException
        401.
    """
    sent = [request.headers.get(f"x-mlflow-{name}", "") for name in ("delivery-id", "timestamp")]
    signed = hmac.digest(secret.encode(), f"{sent[0]}.{sent[1]}.".encode() + body, "sha256")
    expected = f"v1,{b64encode(signed).decode()}"
    fresh = (
        re.fullmatch(r"\d{1,12}", sent[1], re.ASCII)
        and abs(time() - int(sent[1])) < WEBHOOK_SECONDS
    )
    given = request.headers.get("x-mlflow-signature", "")
    if not hmac.compare_digest(given.encode(), expected.encode()) or not fresh:
        raise HTTPException(401, "the signature is not valid, or older than five minutes")


def detail_of(error: HTTPException) -> str:
    """Return an error's detail as one text: each problem after the place it is in."""
    detail: Any = error.detail
    if isinstance(detail, str):
        return detail
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'body'}: {p['msg']}" for p in detail)
