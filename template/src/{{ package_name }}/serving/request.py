"""What a client may send: bodies are bounded, parsed and held against the schema here."""

from typing import Annotated, Any

from annotated_types import Len
from fastapi import HTTPException, Request
from pydantic import (
    BaseModel,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)
from pydantic_core import ErrorDetails

from ..contract import FEATURES, example
from ..schema import Features

MOST_PROBLEMS = 20
LONGEST_NAME = 80
INTEGERS = {column.name for column in FEATURES if column.kind == "integer"}


class Instance(Features):
    """The features as JSON has them: one kind of number, so 178.0 is the integer 178."""

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: object, about: ValidationInfo) -> object:
        if isinstance(value, float) and value.is_integer() and about.field_name in INTEGERS:
            return int(value)
        return value


def request_model(max_instances: int) -> type[BaseModel]:
    """Return the model of a request body, for at most so many instances."""
    return create_model(
        "PredictRequest",
        __config__=ConfigDict(
            extra="forbid", json_schema_extra={"example": {"instances": [example()]}}
        ),
        instances=(Annotated[list[Instance], Len(1, max_instances)], ...),
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
        instances: list[Instance] = adapter.validate_json(body).instances
    except ValidationError as error:
        # The rejected values are left out: they may be secret, huge, or not valid JSON (NaN).
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        status = 400 if problems[0]["type"] == "json_invalid" else 422
        raise HTTPException(
            status, [_shortened(each) for each in problems[:MOST_PROBLEMS]]
        ) from None
    return [instance.model_dump() for instance in instances]


def _shortened(problem: ErrorDetails) -> dict[str, Any]:
    """Cut what the client made up, such as the name of a field that does not exist."""
    place = [part[:LONGEST_NAME] if isinstance(part, str) else part for part in problem["loc"]]
    return {"type": problem["type"], "loc": place, "msg": problem["msg"]}
