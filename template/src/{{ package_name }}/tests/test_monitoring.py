"""Monitoring tells change from noise, and counts what it cannot use."""

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from .. import model_format
from ..contract import CATEGORIES, FEATURE_NAMES, FEATURES, NUMBERS, SMOKE, TARGET
from ..frames import model_frame
from ..model import predict
from ..monitoring import __main__ as monitoring
from ..monitoring import page
from ..monitoring.report import Report
from ..settings import ROOT
from .conftest import Project, sent

NOW = datetime.now(UTC)
NEW = "<b>new</b> & odd"
Entry = dict[str, Any]


@pytest.fixture
def monitored(trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The trained project; what monitoring writes goes elsewhere."""
    monkeypatch.setattr(monitoring, "ROOT", tmp_path)
    return trained


def served(project: Project, *, days_ago: float = 1, **changes: Any) -> list[Entry]:
    """Return log entries as if the training rows had been served, which is no drift at all."""
    rows = project.pipeline().split("train").assign(**changes)
    held = project.pipeline().split("holdout")
    model = model_format.load(project.outputs / "train")
    shares = np.linspace(0, 1, len(rows))
    scores = np.quantile(predict(model, model_frame(held)), shares, method="nearest")
    at = (NOW - timedelta(days=days_ago)).isoformat(timespec="milliseconds")
    about = {"schema": 1, "time": at, "row": 0, "sample": 1.0, "truncated": 0, "not_finite": 0}
    about |= {"model": project.settings.model_name, "version": project.version()["version"]}
    return [
        {**about, "request_id": f"r{n}-{days_ago}", "score": score, "features": values}
        for n, (values, score) in enumerate(zip(sent(rows), scores.tolist(), strict=True))
    ]


def shifted(project: Project, **options: Any) -> list[Entry]:
    """Return entries that nobody would take for the training rows."""
    changes: Entry = dict.fromkeys(CATEGORIES, NEW) or dict.fromkeys(NUMBERS, 1.0)
    return served(project, **options, **changes)


def watch(project: Project, folder: Path, *words: str) -> tuple[int, Report]:
    """Run the command over a log and return its exit code and its report, as written."""
    version = project.version()["version"]
    standard = ["--version", version, "--log", str(folder / "log"), "--out", str(folder / "out")]
    code = monitoring.main([*standard, *words])
    return code, Report.model_validate_json((folder / "out" / "report.json").read_bytes())


def logged(folder: Path, *lines: Entry | bytes, name: str = "a.jsonl") -> Path:
    """Write lines into a log's file."""
    (folder / "log" / name).parent.mkdir(parents=True, exist_ok=True)
    whole = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (folder / "log" / name).write_bytes(b"\n".join([*whole, b""]))
    return folder / "log" / name


def test_what_the_model_learned_from_is_no_drift(monitored: Project, tmp_path: Path) -> None:
    entries = served(monitored)
    logged(tmp_path, *entries)
    code, report = watch(monitored, tmp_path)
    assert (code, report.verdict, report.reasons) == (0, "none", [])
    assert report.log.rows == len(entries)
    assert [column.name for column in report.features if column.missing[0] > 1] == []
    assert {column.name for column in report.features} == set(FEATURE_NAMES)
    assert sum(day.rows for day in report.days) == len(entries)


def test_drift_alarms_and_names_what_is_new(monitored: Project, tmp_path: Path) -> None:
    logged(tmp_path, *shifted(monitored))
    code, report = watch(monitored, tmp_path)
    assert (code, report.verdict) == (10, "alarm")
    assert report.reasons
    named = {name for column in report.features for name in column.new}
    assert named == ({NEW} if CATEGORIES else set())
    html = (tmp_path / "out" / "report.html").read_text()
    assert len(html) < 500_000
    assert "<b>new" not in html
    assert not re.search(r"(src|href)=|@import|url\(", html)
    assert html.count("<svg") > len(FEATURE_NAMES)


def test_too_few_rows_are_not_judged(monitored: Project, tmp_path: Path) -> None:
    logged(tmp_path, *shifted(monitored)[:40])
    code, report = watch(monitored, tmp_path)
    assert (code, report.verdict) == (11, "insufficient")
    assert "40 rows" in report.reasons[0]
    code, report = watch(monitored, tmp_path, "--until", "2001-01-31")
    assert (code, report.log.rows, report.days) == (11, 0, [])


BAD_LINES: list[tuple[str, Callable[[Entry], Entry | bytes]]] = [
    *(("malformed", lambda _, line=line: line) for line in (
        b"INFO: started", b"{", b"null", b"[1]", b'"x"', b"{}", b"\xff\xfe", b"[" * 100_000,
        b"x" * 9_000_000,
    )),
    ("malformed", lambda e: {**e, "request_id": None}),
    ("malformed", lambda e: {**e, "row": "first"}),
    ("malformed", lambda e: {**e, "time": "yesterday"}),
    ("malformed", lambda e: {**e, "features": [1, 2]}),
    ("malformed", lambda e: json.dumps(e).encode()[:60]),
    ("other_schema", lambda e: {**e, "schema": 2}),
    ("other_schema", lambda _: {"schema": 2, "features": "other"}),
    ("clock_skew", lambda e: {**e, "time": (NOW + timedelta(days=1)).isoformat()[:23] + "Z"}),
    ("outside_window", lambda e: {**e, "time": "2001-01-01T00:00:00.000Z"}),
    ("other_model", lambda e: {**e, "model": "other"}),
    ("smoke_test", lambda e: {**e, "request_id": f"{SMOKE}1"}),
    ("other_version", lambda e: {**e, "version": "999"}),
    ("duplicate", lambda e: e),
]  # fmt: skip


def test_lines_that_cannot_be_used_are_counted(monitored: Project, tmp_path: Path) -> None:
    entries = served(monitored)
    bad = [make({**entries[0], "request_id": "bad"}) for _, make in BAD_LINES[:-1]]
    logged(tmp_path, *entries[:300], *bad, entries[0], *entries[300:])
    code, report = watch(monitored, tmp_path, "--last", "30d")
    expected = Counter(reason for reason, _ in BAD_LINES)
    split = report.log.excluded.pop("malformed") - expected.pop("malformed")
    assert 0 <= split < 3  # what is longer than a block counts more than once
    assert report.log.excluded == expected
    assert report.log.rows == len(entries)
    assert report.log.versions["999"] == 1
    assert (code, report.quality) == (10, True)
    assert "are not usable: " in report.reasons[0]


def test_lines_are_read_as_log_services_store_them(monitored: Project, tmp_path: Path) -> None:
    entries = served(monitored)
    half = len(entries) // 2
    day = (NOW - timedelta(days=1)).strftime("%Y/%m/%d")
    wrapped = [
        {"insertId": "1", "timestamp": entry.pop("time"), "jsonPayload": {**entry, "row": 0.0}}
        for entry in entries[:half]
    ]
    logged(tmp_path, *wrapped, {"textPayload": "started"}, name=f"stdout/{day}/10:00:00_S0.json")
    glued = b"".join(json.dumps(entry, separators=(",", ":")).encode() for entry in entries[half:])
    logged(tmp_path, glued, name=f"{day.replace('/', '-')}/delivered-1.jsonl")
    logged(tmp_path, b"never opened", name="stdout/2001/01/01/10:00:00_S0.json")
    _, report = watch(monitored, tmp_path)
    assert report.log.rows == len(entries)
    assert report.log.excluded == {"malformed": 1}
    assert report.log.files_of_other_days == 1


def test_files_that_cannot_be_read_are_named(monitored: Project, tmp_path: Path) -> None:
    logged(tmp_path, *served(monitored))
    logged(tmp_path, b"no parquet", name="b.parquet")
    logged(tmp_path, b"no gzip", name="c.jsonl.gz")
    logged(tmp_path, b"never opened", name="2001-01-01-host-1.jsonl")
    code, report = watch(monitored, tmp_path)
    assert code == 10
    assert [text[:2] for text in report.log.unreadable_files] == ["b.", "c."]
    assert report.log.files_of_other_days == 1


def test_infinite_and_missing_columns_are_reported(monitored: Project, tmp_path: Path) -> None:
    entries = served(monitored)
    gone, *others = FEATURES
    endless = [c.name for c in others if c.kind in {"integer", "number"}][:1]
    for n, entry in enumerate(entries):
        entry["score"] = None
        entry["time"] = NOW - timedelta(hours=1)
        entry["features"] |= {gone.name: None, **dict.fromkeys(endless, (-1) ** n * np.inf)}
    (tmp_path / "log").mkdir()
    parquet.write_table(pa.Table.from_pylist(entries), tmp_path / "log" / "a.parquet")
    code, report = watch(monitored, tmp_path)
    assert (code, report.quality, report.log.rows) == (10, True, len(entries))
    assert report.days[0].score is None
    for column in report.features:
        assert column.infinite == (len(entries) if column.name in endless else 0)
        assert (column.missing[1] == 1) == (column.name == gone.name)


def test_late_labels_tell_how_well_the_model_does(monitored: Project, tmp_path: Path) -> None:
    entries = served(monitored)
    logged(tmp_path, *entries)
    target = monitored.pipeline().split("train")[TARGET.name].astype(float)
    table = pd.DataFrame({"request_id": [e["request_id"] for e in entries], "row": 0})
    table[TARGET.name] = target.to_numpy()
    odd = pd.DataFrame({"request_id": ["r0-1", None, "r1-1"], "row": [0, 0, None]})
    pd.concat([table[:-100], odd.assign(**{TARGET.name: 1.0})]).to_csv(tmp_path / "l.csv")
    _, report = watch(monitored, tmp_path, "--labels", str(tmp_path / "l.csv"))
    assert report.performance is not None
    assert report.labels is not None
    assert (report.labels.unusable, report.labels.replaced) == (2, 1)
    assert report.performance.labelled == len(entries) - 100
    assert set(report.performance.metrics) <= set(report.holdout)
    assert report.days[0].observed is not None
    assert "nobody knows" not in page.render(report)
    table.assign(**{TARGET.name: target.iloc[0]}).to_parquet(tmp_path / "one.parquet")
    _, alike = watch(monitored, tmp_path, "--labels", str(tmp_path / "one.parquet"))
    assert alike.performance is not None


def test_the_schema_of_reports_is_the_one_documented(capsys: pytest.CaptureFixture[str]) -> None:
    assert monitoring.main(["--schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((ROOT / "docs" / "report.schema.json").read_text()) == printed
