"""Tests run inside a rendered project: the prediction log never stands in the way of an answer."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..contract import CATEGORIES, FEATURE_NAMES, NUMBERS, example
from ..monitoring.__main__ import moment
from ..monitoring.records import Window
from ..serving import prediction_log
from ..serving.prediction_log import (
    LONGEST_LINE,
    LONGEST_VALUE,
    PredictionLog,
    chosen,
    open_log,
)
from ..serving.source import Release
from ..settings import PACKAGE, Settings

RELEASE = Release(name="m", version="1", stage="production", sha256=None, bundle_sha256="0" * 64)
SCORES = np.array([0.25, 0.5])
WRITER = (
    "import sys, numpy\n"
    f"from {PACKAGE}.contract import example\n"
    f"from {PACKAGE}.serving.prediction_log import PredictionLog\n"
    f"from {PACKAGE}.serving.source import Release\n"
    f"log, release = PredictionLog(sys.argv[1]), Release(**{RELEASE.model_dump()!r})\n"
    "for i in range(200):\n"
    "    log.write(f'{sys.argv[2]}-{i}', release, [example()] * 30, numpy.ones(30))\n"
    "sys.exit(log.dropped)\n"
)


def entries(folder: Path) -> list[dict[str, Any]]:
    """Return what was written, from every file."""
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_bytes().splitlines() if line]


def test_each_instance_is_a_line_of_its_request(tmp_path: Path) -> None:
    log = PredictionLog(str(tmp_path))
    log.write("abc", RELEASE, [example(), {**example(), "secret": "x"}], SCORES)
    first, second = entries(tmp_path)
    assert (first["schema"], first["request_id"], first["row"]) == (1, "abc", 0)
    assert (first["model"], first["version"], first["sample"]) == ("m", "1", 1.0)
    assert (first["features"], first["score"], first["time"][-1]) == (example(), 0.25, "Z")
    assert (second["row"], second["score"]) == (1, 0.5)
    assert list(second["features"]) == FEATURE_NAMES
    assert log.dropped == 0


def test_it_is_off_until_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "ROOT", tmp_path)
    log = open_log(Settings(prediction_log=""))
    log.write("abc", RELEASE, [example()], SCORES[:1])
    assert (list(tmp_path.iterdir()), log.dropped) == ([], 0)


def test_the_sample_holds_whole_requests_and_about_its_fraction(tmp_path: Path) -> None:
    log = PredictionLog(str(tmp_path), 0.25)
    for i in range(2000):
        log.write(f"request-{i}", RELEASE, [example()] * 2, SCORES)
    found = entries(tmp_path)
    ids = {entry["request_id"] for entry in found}
    assert 0.2 < len(ids) / 2000 < 0.3
    assert len(found) == 2 * len(ids)
    assert {entry["sample"] for entry in found} == {0.25}


def test_long_values_are_cut_and_counted(tmp_path: Path) -> None:
    log = PredictionLog(str(tmp_path))
    name = FEATURE_NAMES[0]
    log.write("x" * 1_000_000, RELEASE, [{**example(), name: "é" * 1_000_000}], SCORES[:1])
    (entry,) = entries(tmp_path)
    assert len(entry["features"][name]) == LONGEST_VALUE
    assert entry["truncated"] == 1
    assert len(entry["request_id"]) == LONGEST_VALUE


def test_numbers_that_json_lacks_are_left_out_and_counted(tmp_path: Path) -> None:
    log = PredictionLog(str(tmp_path))
    name = (NUMBERS or CATEGORIES)[0]
    log.write("abc", RELEASE, [{**example(), name: math.inf}], np.array([math.nan]))
    (entry,) = entries(tmp_path)
    assert (entry["features"][name], entry["score"], entry["not_finite"]) == (None, None, 2)


def test_a_full_disk_is_counted_and_the_next_line_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PredictionLog(str(tmp_path))
    write, room = os.write, [100]

    def full(descriptor: int, content: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        room[0] -= (fits := min(room[0], len(content)))
        return write(descriptor, content[:fits])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        log.write("lost", RELEASE, [example()] * 2, SCORES)
        log.write("lost too", RELEASE, [example()], SCORES[:1])
    assert log.dropped == 3
    log.write("kept", RELEASE, [example()], SCORES[:1])
    (path,) = tmp_path.iterdir()
    torn, whole = path.read_bytes().splitlines()
    assert len(torn) == 100
    assert json.loads(whole)["request_id"] == "kept"


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, message: Callable[[Callable[[], Any]], str]
) -> None:
    (tmp_path / "file").write_text("")
    line = message(lambda: open_log(Settings(prediction_log=str(tmp_path / "file" / "log"))))
    assert "PREDICTION_LOG=" in line


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_sample_holds_the_smaller_one(identity: str, one: float, other: float) -> None:
    assert chosen(identity, max(one, other)) >= chosen(identity, min(one, other))
    assert chosen(identity, 1.0)
    assert not chosen(identity, 0.0)


def test_an_entry_that_no_log_service_takes_keeps_its_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_log, "FEATURE_NAMES", [f"f{i}" for i in range(5000)])
    log = PredictionLog(str(tmp_path))
    log.write("abc", RELEASE, [{f"f{i}": "x" * 100 for i in range(5000)}], SCORES[:1])
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size < LONGEST_LINE
    (entry,) = entries(tmp_path)
    assert (entry["features"], entry["truncated"], entry["score"]) == ({}, 5000, 0.25)


def test_a_vanished_folder_is_counted(tmp_path: Path) -> None:
    log = PredictionLog(str(tmp_path / "gone"))
    log.write("abc", RELEASE, [example()] * 2, SCORES)
    assert log.dropped == 2


def test_the_next_day_begins_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLog(str(tmp_path))
    for day in (1, 2):

        class Clock:
            @staticmethod
            def now(_zone: object, day: int = day) -> Any:
                return datetime(2026, 1, day, tzinfo=UTC)

        monkeypatch.setattr(prediction_log, "datetime", Clock)
        log.write(f"day {day}", RELEASE, [example()], SCORES[:1])
    assert [path.name[:10] for path in sorted(tmp_path.iterdir())] == ["2026-01-01", "2026-01-02"]
    assert [entry["request_id"] for entry in entries(tmp_path)] == ["day 1", "day 2"]


@pytest.mark.parametrize("piped", [False, True])
def test_workers_do_not_break_each_others_lines(tmp_path: Path, piped: bool) -> None:
    target, output = ("-" if piped else str(tmp_path)), tmp_path / "piped.jsonl"
    script = f'{{ "$0" -c "$1" "$2" a & "$0" -c "$1" "$2" b; wait; }} | cat > {output}'
    subprocess.run(["sh", "-c", script, sys.executable, WRITER, target], check=True)
    found = entries(tmp_path)
    assert len({(entry["request_id"], entry["row"]) for entry in found}) == len(found) == 2 * 6000


def test_a_window_that_begins_in_another_zone_reads_the_file_of_that_day_in_utc() -> None:
    since = moment("2026-01-31T00:00+05:00")
    assert Window(since, since + timedelta(days=1), "m", "1").holds("2026-01-30-host-1.jsonl")
