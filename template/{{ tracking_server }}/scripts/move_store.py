"""Move runs, versions, aliases and the journal from this folder's SQLite file to the server.

Ids, numbers and times stay as they are. The server at MLFLOW_TRACKING_URI must be new: it may hold
users, and no run and no model. Its database is named by PGHOST, PGUSER, PGDATABASE and PGPASSWORD,
so run this where the server runs, as `admin`. The SQLite file and the artifacts are only read.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from sqlalchemy import Boolean, Connection, MetaData, Table, create_engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError

ROOT = Path(__file__).parents[1]
SERVER = "postgresql+psycopg://"
SCHEMA = "alembic_version"  # the table that says which version of MLflow made the tables
ROWS_AT_ONCE = 1000
Moved = Callable[[Any], Any]


def reflected(connection: Connection) -> MetaData:
    """Return the tables that a database has."""
    found = MetaData()
    found.reflect(connection)
    return found


def check(
    source: Connection, old: MetaData, target: Connection, new: MetaData, folder: Path
) -> None:
    """Leave unless the same MLflow made both, the server's is unused, and all files are at hand."""
    made = [c.execute(select(m.tables[SCHEMA])).scalar() for c, m in ((source, old), (target, new))]
    if made[0] != made[1]:
        sys.exit(
            f"error: the file has MLflow's schema {made[0]}, the server {made[1]}; "
            "upgrade the older one with `mlflow db upgrade` first"
        )
    for name in ("runs", "registered_models"):
        held = target.execute(select(func.count()).select_from(new.tables[name])).scalar()
        if held:
            sys.exit(f"error: the server holds {held} {name} already; move into a new one")
    for run, place in source.execute(
        select(old.tables["runs"].c["run_uuid"], old.tables["runs"].c["artifact_uri"])
    ):
        if not str(place).startswith(f"{folder.as_uri()}/"):
            sys.exit(f"error: run {run} keeps its files in {place}, and not in {folder}")


def relocation(source: Connection, old: MetaData, folder: Path) -> Moved:
    """Return a function that turns addresses below the artifacts' folder into the server's.

    The server tells from the first part of a path to which experiment a file belongs, and so who
    may change it.
    """
    owners = {
        f"{prefix}{key}": experiment
        for table, column, prefix in (
            ("runs", "run_uuid", ""), ("logged_models", "model_id", "models/"),
        )
        for key, experiment in source.execute(
            select(old.tables[table].c[column], old.tables[table].c["experiment_id"])
        )
    }  # fmt: skip
    known = re.compile(re.escape(folder.as_uri()) + r"/((?:models/)?[^/]+)")

    def moved(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return known.sub(
            lambda m: f"mlflow-artifacts:/{owners[m[1]]}/{m[1]}" if m[1] in owners else m[0], value
        )

    return moved


def upload(source: Connection, old: MetaData, folder: Path, moved: Moved) -> int:
    """Send the files of all runs and models through the server, and count their folders."""
    places = [
        (folder / prefix / str(key), moved((folder / prefix / str(key)).as_uri()))
        for table, column, prefix in (
            ("runs", "run_uuid", ""), ("logged_models", "model_id", "models"),
        )
        for key in source.execute(select(old.tables[table].c[column])).scalars()
    ]  # fmt: skip
    present = [(place, address) for place, address in places if place.is_dir()]
    for place, address in present:
        repository: Any = get_artifact_repository(address)
        repository.log_artifacts(str(place))
    return len(present)


def copy(source: Connection, table: Table, target: Connection, into: Table, moved: Moved) -> int:
    """Copy a table's rows, with each value changed, and let its numbering go on behind them."""
    flags = {column.name for column in into.columns if isinstance(column.type, Boolean)}
    rows = [
        {
            name: bool(value) if name in flags and value is not None else moved(value)
            for name, value in row.items()
        }
        for row in source.execute(select(table)).mappings()
    ]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        target.execute(into.insert(), rows[start : start + ROWS_AT_ONCE])
    for column in into.primary_key:
        sequence = select(func.pg_get_serial_sequence(into.name, column.name))
        if rows and target.execute(sequence).scalar():
            highest = select(func.max(column)).scalar_subquery()
            target.execute(
                select(func.setval(func.pg_get_serial_sequence(into.name, column.name), highest))
            )
    return len(rows)


def move(source: Connection, target: Connection, folder: Path) -> str:
    """Move everything in one transaction, files first, and say what was moved."""
    old, new = reflected(source), reflected(target)
    check(source, old, target, new, folder)
    moved = relocation(source, old, folder)
    folders = upload(source, old, folder, moved)
    names = [table.name for table in new.sorted_tables if table.name in old.tables]
    names.remove(SCHEMA)
    for name in reversed(names):  # what a new server has made for itself
        target.execute(new.tables[name].delete())
    counts = {
        name: copy(source, old.tables[name], target, new.tables[name], moved) for name in names
    }
    for experiment in target.execute(
        select(new.tables["experiments"].c["experiment_id"])
    ).scalars():
        target.execute(
            text("update experiments set artifact_location = :place where experiment_id = :id"),
            {"place": f"mlflow-artifacts:/{experiment}", "id": experiment},
        )
    return f"{counts['runs']} runs, {counts['model_versions']} versions, {folders} folders of files"


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="move_store.py", description=__doc__)
    parser.add_argument("--database", type=Path, default=ROOT / "mlflow.db", help="the SQLite file")
    chosen = parser.parse_args()
    database: Path = chosen.database.resolve()
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith("http"):
        sys.exit("error: export MLFLOW_TRACKING_URI, the address of the server to move to")
    if not database.is_file():
        sys.exit(f"error: there is no {database}; name the file with --database")
    mlflow.set_tracking_uri(uri)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
    try:
        with (
            create_engine(f"sqlite:///{database}").connect() as source,
            create_engine(SERVER).begin() as target,
        ):
            told = move(source, target, database.with_name("mlartifacts"))
    except (SQLAlchemyError, MlflowException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        sys.exit(f"error: nothing was moved: {reason}")
    print(f"moved to {uri}: {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
