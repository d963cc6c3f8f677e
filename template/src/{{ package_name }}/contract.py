"""What follows from schema.py without reading a row: the columns, their kinds and their bounds.

The service imports this, so nothing here needs what only training installs; frames.py does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .errors import ConfigError
from .schema import Features, Target

Kind = Literal["category", "integer", "number", "boolean"]
KINDS: Mapping[type, Kind] = {str: "category", int: "integer", float: "number", bool: "boolean"}
CONSTRAINTS = (Ge, Gt, Le, Lt, MaxLen)


@dataclass(frozen=True)
class Column:
    """One declared column: its kind, whether values may be missing, and its bounds."""

    name: str
    kind: Kind
    nullable: bool
    at_least: float | None
    at_most: float | None
    above: float | None
    below: float | None
    longest: int | None
    example: Any


def columns(model: type[BaseModel]) -> tuple[Column, ...]:
    """Read the columns off a schema class, in the order they are declared."""
    return tuple(_column(name, field) for name, field in model.model_fields.items())


def _column(name: str, field: FieldInfo) -> Column:
    members: set[Any] = {field.annotation}
    if isinstance(field.annotation, UnionType):
        members = set(get_args(field.annotation))
    types = members - {NoneType}
    kind = KINDS.get(types.pop()) if len(types) == 1 else None
    if kind is None:
        raise ConfigError(
            f"schema.py: {name} is {field.annotation}; "
            "use str, int, float or bool, or one of them | None"
        )
    for constraint in field.metadata:
        if not isinstance(constraint, CONSTRAINTS):
            raise ConfigError(
                f"schema.py: {name} has the constraint {constraint}, which raw data cannot be held "
                "against; use ge, gt, le, lt or max_length, or check it in data.py"
            )

    bounds = {type(constraint): constraint for constraint in field.metadata}
    return Column(
        name,
        kind,
        nullable=NoneType in members,
        at_least=getattr(bounds.get(Ge), "ge", None),
        at_most=getattr(bounds.get(Le), "le", None),
        above=getattr(bounds.get(Gt), "gt", None),
        below=getattr(bounds.get(Lt), "lt", None),
        longest=getattr(bounds.get(MaxLen), "max_length", None),
        example=field.examples[0] if field.examples else None,
    )


SMOKE = "smoke-"  # how ids of requests begin that only see whether the service answers
FEATURES = columns(Features)
FEATURE_NAMES = [column.name for column in FEATURES]
CATEGORIES = [column.name for column in FEATURES if column.kind == "category"]
NUMBERS = [column.name for column in FEATURES if column.kind != "category"]
TARGET = columns(Target)[0]


def example() -> dict[str, Any]:
    """Return the instance that the schema's examples make."""
    return {column.name: column.example for column in FEATURES}


def __getattr__(name: str) -> Any:
    """Return what release 0.1.0 had here, for stage files written then; it is in frames.py now."""
    if name not in {"model_frame", "to_frame", "validate"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import frames

    return getattr(frames, name)
