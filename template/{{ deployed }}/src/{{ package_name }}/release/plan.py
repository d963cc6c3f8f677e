"""configs/release.yaml: how carefully a release proceeds."""

from pydantic import Field

from ..config import Section


class CanaryStep(Section):
    """A share of the traffic, and for how long it is watched."""

    percent: int = Field(ge=1, le=99)
    minutes: float = Field(ge=0)


class Plan(Section):
    """The steps between 0 % and 100 %, and what ends a release."""

    ready_seconds: float = Field(gt=0, description="the longest a candidate may take to be ready")
    look_seconds: float = Field(gt=0, description="time between two looks at a canary")
    max_error_share: float = Field(ge=0, lt=1, description="of the canary's requests, as 5xx")
    canary: list[CanaryStep] = Field(description="in production; staging has no callers to watch")
