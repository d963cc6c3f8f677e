"""The data contract, declared once.

Validation of raw data, the API's request model and its examples, and the model's signature all
derive from the two classes below. Types: `str` is a category, `int` and `float` are numbers,
`bool` is a yes or no; `| None` allows missing values. `ge` and `le` are the range that is valid.
"""

from pydantic import BaseModel, ConfigDict, Field

# The raw data's column that orders the rows; not a feature. Where times name a zone, days are those
# of UTC: to divide by local days, have data.py drop the zone (`.dt.tz_localize(None)`).
TIME = "date"


class Features(BaseModel):
    """One flight, as it is known when its schedule and aircraft are."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    carrier: str = Field(max_length=8, description="airline, two-letter code", examples=["UA"])
    origin: str = Field(max_length=8, description="airport of departure", examples=["EWR"])
    dest: str = Field(max_length=8, description="airport of arrival", examples=["SFO"])
    weekday: int = Field(ge=1, le=7, description="day of departure, Monday is 1", examples=[5])
    departure_minute: int = Field(
        ge=0,
        le=1439,
        description="scheduled departure, minutes after local midnight",
        examples=[1065],
    )
    arrival_minute: int = Field(
        ge=0,
        le=1439,
        description="scheduled arrival, minutes after local midnight",
        examples=[1255],
    )
    distance: int = Field(
        ge=0, le=12_000, description="miles between the airports", examples=[2565]
    )
    aircraft_year: int | None = Field(
        None, ge=1920, le=2100, description="year the aircraft was built", examples=[2001]
    )
    seats: int | None = Field(
        None, ge=1, le=900, description="seats in the aircraft", examples=[178]
    )


class Target(BaseModel):
    """What the model predicts."""

    late: bool = Field(description="arrives more than 15 minutes after schedule")


# A flight counts as predicted late from this probability on. About one in four is late, so 0.5
# would name almost none.
THRESHOLD = 0.3
