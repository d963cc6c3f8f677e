"""What a client may send: bodies are bounded, parsed and held against the schema here."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from starlette.requests import ClientDisconnect

from ..contract import FEATURES, example
from ..schema import Features

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is not JSON."},
    401: {"description": "A key is asked for, and none that is valid was sent."},
    413: {"description": "The body is too large."},
    422: {"description": "The body breaks the schema; `detail` names each offending field."},
    503: {"description": "Too many requests at once; `Retry-After` says when to try again."},
}
MOST_PROBLEMS = 20
LONGEST_NAME = 80
INTEGERS = {column.name for column in FEATURES if column.kind == "integer"}
EXACT = 2**53  # models compute with float64, which has no integers between some of those beyond


class Instance(Features):
    """The features as JSON has them: one kind of number, so 178.0 is the integer 178."""

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: object, about: ValidationInfo) -> object:
        if about.field_name in INTEGERS and isinstance(value, int | float):
            if abs(value) > EXACT:
                raise ValueError("Input should be at most 2**53 from zero")
            return int(value) if isinstance(value, float) and value.is_integer() else value
        return value


OPEN = any(None in (c.at_least, c.at_most) for c in FEATURES if c.name in INTEGERS)


def request_model(instance: Any, max_instances: int) -> type[BaseModel]:
    """Return the model of a request body, for at most so many instances."""
    return create_model(
        "PredictRequest",
        __config__=ConfigDict(
            extra="forbid", json_schema_extra={"example": {"instances": [example()]}}
        ),
        instances=(Annotated[list[instance], Len(1, max_instances)], ...),
    )


class Parser:
    """Turns what clients send into instances.

    The schema's own class is tried first, because it runs in native code alone; what it refuses is
    looked at again by `Instance`, which accepts whole numbers in either notation. Integers without
    bounds are left to `Instance`, because they may be beyond what any model computes with.
    """

    def __init__(self, max_instances: int) -> None:
        self.model = request_model(Instance, max_instances)
        self._patient: TypeAdapter[Any] = TypeAdapter(self.model)
        instance = Instance if OPEN else Features
        self._quick: TypeAdapter[Any] = TypeAdapter(request_model(instance, max_instances))

    def body(self, body: bytes) -> list[dict[str, Any]]:
        """Return the instances in the body of a request.

        Raises
        ------
        HTTPException
            400 if the body is not JSON, 422 with the offending fields if it breaks the schema.
        """
        try:
            instances = self._quick.validate_json(body).instances
        except ValidationError:
            with refused():
                instances = self._patient.validate_json(body).instances
        refuse_repeated(body, 1 + sum(len(each.model_fields_set) for each in instances))
        return [vars(instance) for instance in instances]

    def records(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the instances in records that were read from JSON already; raises as `body`."""
        with refused():
            instances = self._patient.validate_python({"instances": records}).instances
        return [vars(instance) for instance in instances]


@contextmanager
def refused() -> Iterator[None]:
    """Turn what the schema objects to into an answer."""
    try:
        yield
    except ValidationError as error:
        # The rejected values are left out: they may be secret, huge, or not valid JSON (NaN).
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        status = 400 if problems[0]["type"] == "json_invalid" else 422
        told = [_shortened(each) for each in problems[:MOST_PROBLEMS]]
        raise HTTPException(status, told) from None


def _shortened(problem: ErrorDetails) -> dict[str, Any]:
    """Cut what the client made up, such as the name of a field that does not exist."""
    place = [part[:LONGEST_NAME] if isinstance(part, str) else part for part in problem["loc"]]
    return {"type": problem["type"], "loc": place, "msg": problem["msg"]}


def refuse_repeated(body: bytes, names: int = -1) -> None:
    """Refuse a body in which an object names a field twice: readers differ in which one counts.

    There is one colon per name, and any others are in texts: where the number of colons is that of
    the names that were read, none was repeated, and the slow look is saved.

    Raises
    ------
    HTTPException
        422, with the name.
    """
    if body.count(b":") != names:
        json.loads(body, object_pairs_hook=_once, parse_int=str, parse_float=str)


def _once(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            problem = {"type": "repeated", "loc": [name[:LONGEST_NAME]], "msg": "Field given twice"}
            raise HTTPException(422, [problem])
        seen.add(name)


def too_large(limit: int) -> HTTPException:
    """Return the answer to a body that is longer than `limit` bytes."""
    return HTTPException(413, f"the body is larger than {limit:,} bytes; send fewer instances")


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of a request; a client that takes its time over it is cut off below.

    Raises
    ------
    HTTPException
        413 as soon as it is longer than `limit` bytes.
    ClientDisconnect
        The client left before its end.
    """
    body, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)
