"""The routes."""

import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import STARTUP_FAILURE

from ..errors import ProjectError, RegistryError
from ..settings import PACKAGE, Settings
from ..settings import load as settings_of_environment
from . import extra, observe, v2
from .answer import PredictResponse
from .board import FOLDER, Board, News, Published
from .guard import Guard, check_signature
from .keeper import Keeper, load
from .predictor import Predictor
from .request import ERRORS, read_body

PREDICT = "/predict"
JSON = b"application/json"


class Health(BaseModel):
    """Whether the process is up, or ready to predict."""

    status: str


class VersionResponse(BaseModel):
    """Which model answers, from which registered files, in which release of this service.

    `note` says why a model is not served as an exported graph, `registry` what the last look for
    another version brought.
    """

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    model_stage: str
    sha256: str | None
    bundle_sha256: str
    runtime: str
    note: str
    service_version: str
    registry: News | None


def create_app(keeper: Keeper, board: Board, settings: Settings) -> ASGIApp:
    """Return the service around a loaded model."""
    about = metadata.metadata(PACKAGE)
    predictor = Predictor(keeper.current, settings)
    app = FastAPI(
        title=about["Name"],
        description=about["Summary"],
        version=about["Version"],
        lifespan=lambda _: _looking(keeper),
    )

    @app.post(
        PREDICT, response_model=PredictResponse, responses=ERRORS, openapi_extra=_body(predictor)
    )
    async def predict(request: Request) -> Response:
        """Predict for one or more instances; the answers come in the same order."""
        answered = await predictor(request, predictor.parser.body)
        return Answer(to_json(answered))

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/healthz")
    async def healthz() -> Health:
        """Say that the process answers."""
        return Health(status="ok")

    @app.get("/readyz")
    async def readyz() -> Health:
        """Say that a model is loaded and has predicted; the service listens only from then on."""
        return Health(status="ready")

    @app.get("/version")
    async def version() -> VersionResponse:
        """Say which model answers."""
        served = keeper.current()
        return VersionResponse(
            model_name=served.release.name,
            model_version=served.release.version,
            model_stage=served.release.stage,
            sha256=served.release.sha256,
            bundle_sha256=served.release.bundle_sha256,
            runtime=served.about.runtime,
            note=served.about.note,
            service_version=about["Version"],
            registry=board.read(News),
        )

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Count and time what was done, for Prometheus."""
        return Response(observe.page(keeper.labels()), media_type=CONTENT_TYPE_LATEST)

    if settings.webhook_secret is not None:
        secret = settings.webhook_secret.get_secret_value()

        @app.post("/hooks/registry", status_code=202)
        async def hook(request: Request) -> Health:
            """Look for another version now; the registry's webhook is signed, and only a hint."""
            body = await read_body(request, settings.max_body_bytes)
            check_signature(request, body, secret)
            board.ask_for_a_look()
            return Health(status="looking")

    app.include_router(v2.router(predictor, keeper.current))
    app.include_router(extra.router)
    direct = Direct(PREDICT, predict, app)
    return Guard(direct, log_requests=settings.log_level in {"debug", "info"})


class Answer(Response):
    """JSON, with headers that took the framework as long to build as the answer takes to score."""

    def __init__(self, body: bytes) -> None:
        self.status_code, self.body, self.background = 200, body, None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", JSON)]


class Direct:
    """Calls one route past the framework's stack, which would take longer than the model."""

    def __init__(
        self, path: str, route: Callable[[Request], Awaitable[Response]], app: FastAPI
    ) -> None:
        self.path, self._route, self._app = path, route, app  # metrics name the path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the framework would."""
        if scope.get("path") != self.path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = self
        try:
            response = await self._route(Request(scope, receive))
        except HTTPException as error:
            response = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
        await response(scope, receive, send)


def application(settings: Settings, board: Board, folder: Path) -> ASGIApp:
    """Load what is published, wait for its moment, and return the service around it."""
    # FastAPI asks of every route whether it returns a model of pydantic's first version, and to ask
    # imports all of that: a twentieth of the start. What is None here cannot be imported.
    sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]
    published = board.read(Published)
    if published is None:
        raise RegistryError(f"{folder} holds no published model; start the service again")
    served = load(published.folder, published.release)
    time.sleep(max(0.0, published.from_time - time.time()))
    return create_app(Keeper(settings, board, folder, served), board, settings)


def worker() -> ASGIApp:
    """Return the service of one worker among several; uvicorn starts each in its own process."""
    settings, folder = settings_of_environment(), Path(os.environ[FOLDER])
    observe.start_logging(settings.log_level)
    observe.forget_dead_workers()
    try:
        return application(settings, Board(folder), folder)
    except ProjectError as error:
        logging.getLogger(__name__).error("%s", error)
        sys.exit(STARTUP_FAILURE)


@contextlib.asynccontextmanager
async def _looking(keeper: Keeper) -> AsyncIterator[None]:
    """Look for other versions for as long as the service runs."""
    gc.enable()
    gc.freeze()  # what is loaded stays; looking through it again would pause the answers
    task = asyncio.create_task(keeper.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _body(predictor: Predictor) -> dict[str, Any]:
    """Describe the body for OpenAPI, which cannot see it because the route parses it itself."""
    schema = predictor.parser.model.model_json_schema(ref_template="#/components/schemas/{model}")
    features = schema.pop("$defs")["Instance"]
    schema["properties"]["instances"]["items"] = features
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
