"""The routes."""

from importlib import metadata
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, TypeAdapter

from ..settings import PACKAGE, Settings
from .answer import PredictResponse, answer
from .predictor import Predictor
from .request import parse, read_body, request_model


class Health(BaseModel):
    """Whether the process is up, or ready to predict."""

    status: str


class VersionResponse(BaseModel):
    """Which model answers, from which registered files, in which release of this service."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    model_stage: str
    sha256: str | None
    service_version: str


def create_app(predictor: Predictor, settings: Settings) -> FastAPI:
    """Return the service around one loaded model."""
    about = metadata.metadata(PACKAGE)
    app = FastAPI(title=about["Name"], description=about["Summary"], version=about["Version"])
    body_model = request_model(settings.max_instances)
    adapter: TypeAdapter[Any] = TypeAdapter(body_model)

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
        return VersionResponse(
            model_name=predictor.version.name,
            model_version=predictor.version.number,
            model_stage=settings.model_stage,
            sha256=predictor.version.digest,
            service_version=about["Version"],
        )

    @app.post("/predict", openapi_extra=_body_schema(body_model), responses=ERRORS)
    async def predict(request: Request) -> PredictResponse:
        """Predict for one or more instances; the answers come in the same order."""
        instances = parse(adapter, await read_body(request, settings.max_body_bytes))
        scores = await run_in_threadpool(predictor, instances)
        return answer(scores, predictor.version)

    return app


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is not JSON."},
    413: {"description": "The body is too large."},
    422: {"description": "The body breaks the schema; `detail` names each offending field."},
}


def _body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Describe the body for OpenAPI, which cannot see it because the route parses it itself."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    features = schema.pop("$defs")["Instance"]
    schema["properties"]["instances"]["items"] = features
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
