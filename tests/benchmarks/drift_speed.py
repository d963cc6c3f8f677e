"""CPU time and memory of one report on 1,000,000 + 1,000,000 rows of 30 columns, with its page.

Usage: python tests/benchmarks/drift_speed.py PROJECT ours|evidently|streamed [ROWS]

PROJECT is a rendered project; the environment is that of drift.py, with pyarrow. "ours" and
"evidently" are given both tables in memory and write their HTML; "streamed" counts them from
Parquet, batch by batch, under a limit on memory that the tables do not fit into.
"""

import importlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from drift import HALF, KINDS, NAMES, Columns, dates, draw, independent, project

BATCH = 50_000
LIMIT = 450_000_000  # bytes above what Python and its imports take


def usage() -> tuple[float, float]:
    """Return CPU seconds so far and the peak of memory in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3


def batches(path: Path) -> Iterator[Columns]:
    """Read a table piece by piece."""
    for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=NAMES):
        yield {
            name: batch[name].to_numpy(zero_copy_only=False)
            if name[0] == "n"
            else np.array(batch[name].to_pylist(), object)
            for name in NAMES
        }


def streamed(root: Path, rows: int) -> dict[str, Any]:
    """Count both tables from Parquet; the bins come from the first rows of the reference."""
    profile, drift, config = project(root)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.parquet" for name in ("reference", "current")]
        for path in paths:
            writer = None
            for _ in range(rows // BATCH):
                table = pa.table(draw(rng, BATCH, 60, independent))
                writer = writer or pq.ParquetWriter(path, table.schema)
                writer.write_table(table)
            if writer:
                writer.close()
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT, size + LIMIT))
        before, _ = usage()
        first = next(batches(paths[0]))
        bins = profile.empty_like(profile.build(first, kinds=KINDS))
        profiles = []
        for path in paths:
            counted = bins
            for batch in batches(path):
                counted = counted.add(batch)
            profiles.append(counted)
        found = drift.compare(*profiles, config)
    after, peak = usage()
    return {"checks": len(found), "cpu_s": after - before, "peak_mb": peak,
            "limit_mb": (size + LIMIT) / 1e6, "rows": [p.rows for p in profiles]}  # fmt: skip


def write_page(drift: Any, reference: Any, current: Any, config: Any, path: Path) -> None:
    """Compare, and write the report's page as the project's command does, of a log not read."""
    records, report, page = (
        importlib.import_module(f"{drift.__package__}.{name}")
        for name in ("records", "report", "page")
    )
    window = records.Window(*(datetime(2026, 1, day, tzinfo=UTC) for day in (1, 15)), "model", "1")
    read = records.Reading(window)
    seen = report.Evidence(read, "memory", reference, current, [], None, None)
    path.write_text(page.render(report.make(seen, config)), encoding="utf-8")


def in_memory(root: Path, rows: int, method: str) -> dict[str, Any]:
    """Make one report of tables in memory; memory is what it takes above them."""
    import pandas as pd  # noqa: PLC0415
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415
    from evidently.presets import DataDriftPreset  # noqa: PLC0415

    profile, drift, config = project(root)
    rng = np.random.default_rng(0)
    old, new = (draw(rng, rows, 60, independent) for _ in range(2))
    page = Path(tempfile.mkdtemp()) / "report.html"
    if method == "evidently":
        shape = DataDefinition(numerical_columns=NAMES[:HALF], categorical_columns=NAMES[HALF:])
        frames = [pd.DataFrame(part) for part in (new, old)]
        del old, new
        before, base = usage()
        sets = (Dataset.from_pandas(frame, data_definition=shape) for frame in frames)
        Report([DataDriftPreset()]).run(*sets).save_html(str(page))
    else:
        before, base = usage()
        times = [dates(rows, days, "2026-01-01") for days in (60, 14)]
        reference = profile.build(old, times=times[0], kinds=KINDS)
        current = profile.empty_like(reference)
        for start in range(0, rows, BATCH):
            part = slice(start, start + BATCH)
            batch = {name: values[part] for name, values in new.items()}
            current = current.add(batch, times=times[1][part])
        write_page(drift, reference, current, config, page)
    after, peak = usage()
    return {"cpu_s": after - before, "tables_mb": base, "peak_mb": peak, "above_mb": peak - base,
            "html_mb": page.stat().st_size / 1e6}  # fmt: skip


def main() -> None:
    """Measure what the command line names and print it as JSON."""
    if len(sys.argv) not in {3, 4}:
        raise SystemExit(__doc__)
    root, method = Path(sys.argv[1]).resolve(), sys.argv[2]
    rows = int(sys.argv[3]) if len(sys.argv) == 4 else 1_000_000
    started = time.perf_counter()
    found = streamed(root, rows) if method == "streamed" else in_memory(root, rows, method)
    print(json.dumps({"method": method, **found, "wall_s": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
