"""Orders of a web shop: no column is the example's, and neither are its types and bounds."""

from pydantic import BaseModel, ConfigDict, Field

TIME = "ordered"


class Features(BaseModel):
    """One order, as it is known when it is sent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    express: bool = Field(examples=[True])
    value: float = Field(gt=0, lt=100_000, examples=[49.9])
    items: int = Field(examples=[3])
    customer: str = Field(examples=["0042"])
    rating: float | None = Field(None, ge=1, examples=[4.5])


class Target(BaseModel):
    """What the model predicts."""

    returned: bool


THRESHOLD = 0.5
