"""What a client may send: bodies are bounded, parsed and held against the schema here."""

from typing import Annotated, Any

from annotated_types import Len
from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from ..contract import example
from ..schema import Features

MOST_PROBLEMS = 20


def request_model(max_instances: int) -> type[BaseModel]:
    """Return the model of a request body, for at most so many instances."""
    return create_model(
        "PredictRequest",
        __config__=ConfigDict(
            extra="forbid", json_schema_extra={"example": {"instances": [example()]}}
        ),
        instances=(Annotated[list[Features], Len(1, max_instances)], ...),
    )


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body, or answer 413 as soon as it is longer than `limit` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(
                413, f"the body is larger than {limit:,} bytes; send fewer instances"
            )
    return bytes(body)


def parse(adapter: TypeAdapter[Any], body: bytes) -> list[dict[str, Any]]:
    """Return the instances in a body.

    Raises
    ------
    HTTPException
        400 if the body is not JSON, 422 with the offending fields if it breaks the schema.
    """
    try:
        instances: list[Features] = adapter.validate_json(body).instances
    except ValidationError as error:
        # The rejected values are left out: they may be secret, huge, or not valid JSON (NaN).
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        status = 400 if problems[0]["type"] == "json_invalid" else 422
        raise HTTPException(status, problems[:MOST_PROBLEMS]) from None
    return [instance.model_dump() for instance in instances]
