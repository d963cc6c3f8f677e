"""Reading the prediction log: JSON lines or Parquet, in a folder or a bucket, a block at a time.

Nothing in a log stops the reading. A row that cannot be used is counted under its reason.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from numpy.typing import NDArray
from pyarrow import fs, parquet

from ..contract import FEATURES, SMOKE
from ..errors import DataError, first_line

SCHEMA = 1  # of serving/prediction_log.py
BLOCK = 1 << 22
SKEW = timedelta(minutes=5)  # clocks of machines differ by less
NAMED_BY_DAY = re.compile(r"(?<!\d)(\d{4})([-/])(\d\d)\2(\d\d)(?!\d)")
# A line that is no object is told apart beforehand: a leading `null` ends pyarrow 25's process.
NO_OBJECT = re.compile(rb"^(?!\{|\r?$)", re.MULTILINE)
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")

MALFORMED, OTHER_SCHEMA, CLOCK_SKEW = "malformed", "other_schema", "clock_skew"
OUTSIDE, OTHER_MODEL, OTHER_VERSION = "outside_window", "other_model", "other_version"
DUPLICATE, SMOKE_TEST = "duplicate", "smoke_test"
# What a healthy service never writes; the other reasons only say that the log holds more.
FAULTS = (MALFORMED, OTHER_SCHEMA, CLOCK_SKEW)


TYPES = {"category": pa.string(), "boolean": pa.bool_()}
ENTRY = pa.schema(
    {
        "schema": pa.int64(),
        "time": pa.timestamp("ms", "UTC"),
        "request_id": pa.string(),
        "row": pa.int64(),
        "model": pa.string(),
        "version": pa.string(),
        "sample": pa.float64(),
        "score": pa.float64(),
        "truncated": pa.int64(),
        "not_finite": pa.int64(),
        "features": pa.struct([(c.name, TYPES.get(c.kind, pa.float64())) for c in FEATURES]),
    }
)


# Log services store a line in an entry of theirs (Cloud Logging), with numbers as floats and
# perhaps without the time, which is the entry's; or lines with nothing between them (data streams).
PAYLOAD = "jsonPayload"
WRAPPED = pa.schema(
    {
        PAYLOAD: pa.struct(
            [f.with_type(pa.float64()) if f.type == pa.int64() else f for f in ENTRY]
        ),
        "timestamp": pa.timestamp("ns", "UTC"),
    }
)
BEGINNING = b'{"schema":'


@dataclass(frozen=True)
class Window:
    """Which rows are asked for: of one version, from `since` until before `until`."""

    since: datetime
    until: datetime
    model: str
    version: str

    def holds(self, path: str) -> bool:
        """Return whether a file may hold such rows; without a day in its path it may."""
        day = NAMED_BY_DAY.search(path)
        late = self.until + timedelta(days=1)  # written just before midnight, stored after it
        return not day or str(self.since.date()) <= "-".join(day.group(1, 3, 4)) <= str(late.date())


@dataclass(frozen=True)
class Batch:
    """Usable rows: features as `Profile.add` takes them, scores, times, and what labels join on."""

    columns: dict[str, NDArray[Any]]
    scores: NDArray[np.float64]
    times: NDArray[np.datetime64]
    keys: NDArray[np.int64]


class Seen:
    """Which keys came before: sorted runs that double in length, eight bytes a key."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.int64]] = []

    def first(self, keys: NDArray[np.int64], asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of the rows asked about are the first with their key, and remember them."""
        found = np.zeros(len(keys), bool)
        rows = np.flatnonzero(asked)
        fresh, places = np.unique(keys[rows], return_index=True)
        new = np.ones(len(fresh), bool)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, fresh), len(run) - 1)
            new &= run[at] != fresh
        found[rows[places[new]]] = True
        run = fresh[new]
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
        return found


@dataclass
class Reading:
    """What was read, and what was left out for which reason."""

    window: Window
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    files: int = 0
    other_days: int = 0
    unreadable: list[str] = field(default_factory=list)
    rows: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    samples: set[float] = field(default_factory=set)
    _seen: Seen = field(init=False, default_factory=Seen)

    def batches(self, place: str) -> Iterator[Batch]:
        """Read every file at a place, a path or a URI, in order of their names.

        Raises
        ------
        DataError
            There is no such place.
        """
        filesystem, root, files = _files(place)
        for path in files:
            name = path.rsplit("/", 1)[-1]
            if not self.window.holds(path.removeprefix(root)):
                self.other_days += 1
                continue
            self.files += 1
            try:
                tables = _parquet if name.endswith(".parquet") else self._lines
                for table in tables(filesystem, path):
                    yield from self._select(table)
            except (OSError, pa.ArrowException) as error:  # truncated, or not what its name says
                self.unreadable.append(f"{name}: {first_line(error)[:200]}")

    def _lines(self, filesystem: fs.FileSystem, path: str) -> Iterator[pa.Table]:
        with filesystem.open_input_stream(path, compression="detect") as stream:
            rest = b""
            while piece := stream.read(BLOCK):
                whole = (rest + piece).replace(b"}" + BEGINNING, b"}\n" + BEGINNING)
                lines, _, rest = whole.rpartition(b"\n")
                yield from self._parse(lines)
                if len(rest) > BLOCK:  # no line of ours; it must not fill the memory
                    rest = self._reject(rest)
            yield from self._parse(rest)

    def _parse(self, block: bytes) -> Iterator[pa.Table]:
        """Parse lines together, and the halves apart if they do not parse, down to a bad line."""
        if not block.strip():
            return
        if not NO_OBJECT.search(block):
            with contextlib.suppress(pa.ArrowInvalid):
                yield _read(block)
                return
        lines = block.split(b"\n")
        if len(lines) == 1:
            self._reject(block)
            return
        middle = len(lines) // 2
        yield from self._parse(b"\n".join(lines[:middle]))
        yield from self._parse(b"\n".join(lines[middle:]))

    def _reject(self, line: bytes) -> bytes:
        reason = MALFORMED
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            if json.loads(line).get("schema", SCHEMA) != SCHEMA:
                reason = OTHER_SCHEMA
        self.excluded[reason] += 1
        return b""

    def _select(self, table: pa.Table) -> Iterator[Batch]:
        """Keep the rows that are asked for; every other one is counted once, by what is first."""
        known = {
            n: table[n].to_numpy() for n in ("schema", "row", "request_id", "model", "version")
        }
        at = table["time"].cast(pa.int64()).to_numpy().astype(np.float64)
        keep = np.ones(len(at), bool)

        def leave_out(reason: str, rows: NDArray[np.bool_]) -> None:
            nonlocal keep
            self.excluded[reason] += int((keep & rows).sum())
            keep = keep & ~rows

        window = self.window
        schema = known["schema"].astype(np.float64)
        leave_out(OTHER_SCHEMA, ~np.isnan(schema) & (schema != SCHEMA))
        row = known["row"].astype(np.float64)
        leave_out(MALFORMED, np.isnan(schema) | np.isnan(at) | np.isnan(row))
        for name in ("request_id", "version"):
            leave_out(MALFORMED, table[name].is_null().to_numpy())
        leave_out(CLOCK_SKEW, at > _ms(self.now + SKEW))
        leave_out(OUTSIDE, (at < _ms(window.since)) | (at >= _ms(window.until)))
        leave_out(OTHER_MODEL, known["model"] != window.model)
        smoke = pc.starts_with(table["request_id"], SMOKE).fill_null(False)
        leave_out(SMOKE_TEST, smoke.to_numpy())
        self.versions.update(known["version"][keep])
        leave_out(OTHER_VERSION, known["version"] != window.version)
        keys = key(known["request_id"], np.nan_to_num(row, nan=-1).astype(np.int64))
        leave_out(DUPLICATE, ~self._seen.first(keys, keep))
        if keep.any():
            yield self._batch(table.filter(pa.array(keep)), at[keep], keys[keep])

    def _batch(self, table: pa.Table, at: NDArray[Any], keys: NDArray[np.int64]) -> Batch:
        columns = {}
        for column in FEATURES:
            values = pc.struct_field(table["features"], column.name).to_numpy()
            columns[column.name] = (
                values if column.kind == "category" else values.astype(np.float64)
            )
        self.rows += len(at)
        for name in ("truncated", "not_finite"):
            self.values[name] += pc.sum(table[name]).as_py() or 0
        self.samples |= set(pc.unique(table["sample"]).drop_null().to_pylist())
        scores = table["score"].to_numpy().astype(np.float64)
        times = at.astype(np.int64).astype("datetime64[ms]")
        return Batch(columns, scores, times, keys)


def key(request_ids: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 64 bits that stand for each request's row, the same throughout one process."""
    pairs = zip(request_ids.tolist(), rows.tolist(), strict=True)
    return np.fromiter(map(hash, pairs), np.int64, len(rows))


def _ms(time: datetime) -> float:
    return time.timestamp() * 1000


def _read(block: bytes) -> pa.Table:
    wrapped = PAYLOAD.encode() in block
    table = pj.read_json(
        BytesIO(block),
        pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
        pj.ParseOptions(
            explicit_schema=WRAPPED if wrapped else ENTRY, unexpected_field_behavior="ignore"
        ),
    )
    if not wrapped:
        return table
    payload, stamps = (table[name].combine_chunks() for name in WRAPPED.names)
    inside = {each.name: pc.struct_field(payload, each.name) for each in payload.type}
    stamps = stamps.cast(ENTRY.field("time").type, safe=False)
    return _fitted(pa.table({**inside, "time": pc.coalesce(inside["time"], stamps)}))


def _parquet(filesystem: fs.FileSystem, path: str) -> Iterator[pa.Table]:
    with filesystem.open_input_file(path) as file:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=1 << 16):
            yield _fitted(pa.table(batch))


def _fitted(table: pa.Table) -> pa.Table:
    """Give a Parquet log the columns and types of ENTRY; what it lacks is missing everywhere."""
    given = {name: table[name].combine_chunks() for name in table.column_names}
    features = ENTRY.field("features").type
    if "features" in given:
        struct = given["features"]
        inside = {f.name: pc.struct_field(struct, f.name) for f in struct.type}
        parts = [_cast(inside.get(f.name), f.type, len(table)) for f in features]
        given["features"] = pa.StructArray.from_arrays(parts, fields=list(features))
    return pa.table([_cast(given.get(f.name), f.type, len(table)) for f in ENTRY], schema=ENTRY)


def _cast(values: pa.Array | None, wanted: pa.DataType, rows: int) -> pa.Array:
    # Unsafe, because times are often finer than ours.
    return pa.nulls(rows, wanted) if values is None else values.cast(wanted, safe=False)


def locate(place: str) -> tuple[fs.FileSystem, str]:
    """Return where a path or a URI leads, and the path there."""
    named = place if "://" in place else Path(place)
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(named)
    return found


def _files(place: str) -> tuple[fs.FileSystem, str, list[str]]:
    try:
        filesystem, path = locate(place)
        found = filesystem.get_file_info(path)
        if found.type == fs.FileType.Directory:
            inside = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
            names = sorted(each.path for each in inside if each.path.endswith(SUFFIXES))
            return filesystem, path, names
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"the log {place} cannot be read: {first_line(error)}") from None
    if found.type != fs.FileType.File:
        raise DataError(
            f"there is no log at {place}; start the service with PREDICTION_LOG set, or name a "
            "folder with --log"
        )
    return filesystem, path.rpartition("/")[0], [path]
