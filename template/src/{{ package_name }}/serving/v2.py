"""The Open Inference Protocol, version 2, for clients that speak it: KServe, Triton and others.

Each feature is an input of shape [rows]; each list that `/predict` answers with is an output.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ..contract import FEATURES, Kind, example
from .answer import PredictResponse
from .batcher import Served
from .guard import detail_of
from .predictor import Predictor, Rows
from .request import ERRORS, refuse_repeated, refused

Datatype = Literal["BYTES", "BOOL", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64"]
DATATYPES: dict[Kind, Datatype] = {
    "category": "BYTES", "integer": "INT64", "number": "FP64", "boolean": "BOOL"
}  # fmt: skip
LISTS: dict[Any, Datatype] = {list[bool]: "BOOL", list[float]: "FP64"}
OUTPUTS = {
    field.name: LISTS[field.type] for field in fields(PredictResponse) if field.type in LISTS
}
INPUTS = {column.name: DATATYPES[column.kind] for column in FEATURES}


class Tensor(BaseModel):
    """One feature's values, null where one is missing; or one list of answers."""

    name: str = Field(max_length=200)
    datatype: Datatype
    shape: Annotated[list[int], Field(min_length=1, max_length=2)]
    data: list[Any]


class Wanted(BaseModel):
    """The name of an output to answer with."""

    name: str = Field(max_length=200, json_schema_extra={"enum": [*OUTPUTS]})


class InferRequest(BaseModel):
    """What a client sends."""

    id: str | None = Field(None, max_length=200)
    inputs: Annotated[list[Tensor], Field(min_length=1)]
    outputs: list[Wanted] | None = None


NO_MODEL: dict[int | str, dict[str, Any]] = {404: {"description": "Another model is served here."}}


def as_tensor(name: str, datatype: Datatype, data: list[Any]) -> dict[str, Any]:
    """Return values as the protocol has them."""
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}


def rows(asked: InferRequest) -> Rows:
    """Turn one input per feature into one record per row.

    Raises
    ------
    HTTPException
        422 if the inputs do not have one length, or one is given twice.
    """
    columns: dict[str, list[Any]] = {}
    for tensor in asked.inputs:
        values = tensor.data
        if len(tensor.shape) > 1:  # [rows, 1], nested or flat
            values = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in values]
        if tensor.shape != [len(values), 1][: len(tensor.shape)] or tensor.name in columns:
            raise HTTPException(422, f"input {tensor.name[:80]!r} is not once, of its shape [rows]")
        columns[tensor.name] = values
    if len({len(values) for values in columns.values()}) != 1:
        raise HTTPException(422, "the inputs differ in their number of rows")
    return [dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]


def outputs(answered: PredictResponse, wanted: list[Wanted] | None) -> list[dict[str, Any]]:
    """Return each list of an answer as a tensor.

    Raises
    ------
    HTTPException
        422 if an output is wanted that there is not.
    """
    names = [*OUTPUTS] if wanted is None else [each.name for each in wanted]
    if unknown := [name for name in names if name not in OUTPUTS]:
        raise HTTPException(422, f"there is no output {unknown[0][:80]!r}; there are {[*OUTPUTS]}")
    return [as_tensor(name, OUTPUTS[name], getattr(answered, name)) for name in names]


def described(served: Served, name: str) -> dict[str, Any]:
    """Return what the protocol tells of a model.

    Raises
    ------
    HTTPException
        404 if another model is served here.
    """
    if name != served.release.name:
        raise HTTPException(404, f"the model served here is {served.release.name!r}")
    tensors = (
        [{"name": tensor, "datatype": datatype, "shape": [-1]} for tensor, datatype in each.items()]
        for each in (INPUTS, OUTPUTS)
    )
    facts = {"name": name, "versions": [served.release.version], "platform": served.about.runtime}
    return {**facts, **dict(zip(("inputs", "outputs"), tensors, strict=True))}


def router(predict: Predictor, current: Callable[[], Served]) -> APIRouter:
    """Return the protocol's routes."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @routes.get("")
    async def server() -> dict[str, Any]:
        """Say who serves."""
        return {"name": current().release.name, "version": "2", "extensions": []}

    @routes.get("/health/live")
    async def live() -> dict[str, bool]:
        """Say that the process answers."""
        return {"live": True}

    @routes.get("/health/ready")
    async def ready() -> dict[str, bool]:
        """Say that the model has predicted."""
        return {"ready": True}

    @routes.get("/models/{name}", responses=NO_MODEL)
    async def model(name: str) -> dict[str, Any]:
        """Describe the model's inputs and outputs."""
        return described(current(), name)

    @routes.get("/models/{name}/ready", responses=NO_MODEL)
    async def model_ready(name: str) -> dict[str, Any]:
        """Say that the model is ready."""
        return {"name": described(current(), name)["name"], "ready": True}

    @routes.post(
        "/models/{name}/infer", responses={**ERRORS, **NO_MODEL}, openapi_extra=_documented()
    )
    async def infer(name: str, request: Request) -> JSONResponse:
        """Predict for the rows of the inputs."""
        asked: list[InferRequest] = []

        def read(body: bytes) -> Rows:
            with refused():
                asked.append(InferRequest.model_validate_json(body))
            refuse_repeated(body)
            return predict.parser.records(rows(asked[0]))

        try:
            described(current(), name)
            answered = await predict(request, read)
            found = outputs(answered, asked[0].outputs)
        except HTTPException as error:
            return JSONResponse({"error": detail_of(error)}, error.status_code, error.headers)
        return JSONResponse(
            {
                "model_name": answered.model.name,
                "model_version": answered.model.version,
                "id": asked[0].id or request.state.request_id,
                "outputs": found,
            }
        )

    return routes


def _documented() -> dict[str, Any]:
    """Describe the body for OpenAPI."""
    schema = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = schema.pop("$defs")
    schema["properties"]["inputs"]["items"] = parts["Tensor"]
    schema["properties"]["outputs"]["anyOf"][0]["items"] = parts["Wanted"]
    inputs = [as_tensor(name, INPUTS[name], [value]) for name, value in example().items()]
    schema["example"] = {"inputs": inputs}
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}
