"""Tests run inside a rendered project: monitoring asks once, where it is safe, and never acts."""

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from .. import journal
from ..config import DriftConfig
from ..errors import ProjectError
from ..journal import Event
from ..lifecycle import Store
from ..monitoring import __main__ as monitoring
from ..monitoring import retraining
from ..monitoring.report import Report
from ..settings import Settings
from .conftest import Project
from .test_monitoring import NOW, Entry, logged, shifted, watch


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--log", "nowhere"], "there is no log at"),
        ([], "set PREDICTION_LOG"),
        (["--log", "x", "--labels", "nowhere.csv"], "no labels at"),
        (["--log", "x", "--reference", "nowhere.json"], "cannot be read"),
        (["--log", "x", "--version", "99"], "has no version 99"),
        (["--log", "x", "--since", "2026-02-01", "--until", "2026-01-01"], "is empty"),
    ],
)
def test_mistakes_are_one_line(
    trained: Project, message: Callable[[Callable[[], Any]], str], words: list[str], said: str
) -> None:
    version = [] if "--version" in words else ["--version", trained.version()["version"]]
    assert said in message(lambda: monitoring.main([*version, *words]))


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    """A webhook that keeps what it is sent and answers with `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.got.append((self.path, dict(self.headers), body))
            self.send_response(server.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(HTTPServer):
        got: list[tuple[str, dict[str, str], bytes]]
        status = 204

    server = Server(("127.0.0.1", 0), Handler)
    server.got = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def asking(
    project: Project, receiver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Project:
    """A project of one's own that asks the receiver, and needs no labels to do so."""
    monkeypatch.setattr(monitoring, "ROOT", tmp_path)
    monkeypatch.setenv("RETRAIN_WEBHOOK", f"http://127.0.0.1:{receiver.server_port}/hook")
    monkeypatch.setenv("RETRAIN_SECRET", "s3cret")
    rules = tmp_path / "configs" / "drift.yaml"
    rules.write_text(re.sub(r"(min_new_labels:) \d+", r"\1 0", rules.read_text()))
    return project


def test_whoever_only_compares_needs_to_read_and_no_more(
    asking: Project, receiver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of monitoring's is there yet, as when a weekly job runs for the first time."""

    def refused(*_: object, **__: object) -> None:
        raise MlflowException("PERMISSION_DENIED", PERMISSION_DENIED)

    writing = ("create_", "delete_", "log_", "rename_", "restore_", "set_", "update_")
    for name in (each for each in dir(MlflowClient) if each.startswith(writing)):
        monkeypatch.setattr(MlflowClient, name, refused)
    logged(tmp_path, *shifted(asking))
    code, report = watch(asking, tmp_path)
    assert (code, report.request is not None, receiver.got) == (10, True, [])
    with pytest.raises(ProjectError, match="PERMISSION_DENIED"):
        watch(asking, tmp_path, "--request")


def test_two_windows_in_a_row_ask_once(asking: Project, receiver: Any, tmp_path: Path) -> None:
    for days in (10, 3):
        logged(tmp_path, *shifted(asking, days_ago=days), name=f"{days}.jsonl")
    earlier = ["--until", (NOW - timedelta(days=7)).isoformat()]
    this = ["--until", NOW.isoformat()]
    _, report = watch(asking, tmp_path, *earlier, "--request")
    assert report.request is not None
    assert "windows in a row" in report.request.blocked[0]
    _, report = watch(asking, tmp_path, *this)
    assert report.request is not None
    assert (report.request.blocked, report.request.sent, receiver.got) == ([], False, [])
    _, report = watch(asking, tmp_path, *this, "--request")
    assert report.request is not None
    assert report.request.sent
    _, report = watch(asking, tmp_path, *this, "--request")
    assert report.request is not None
    assert "still open" in report.request.blocked[0]
    ((path, headers, body),) = receiver.got
    signed = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert (path, headers["X-Signature-256"]) == ("/hook", f"sha256={signed}")
    told = json.loads(body)
    assert (told["event"], told["version"]) == ("retrain", asking.version()["version"])
    assert told["reasons"] == report.reasons[:20]
    assert "/runs/" in told["report"]


def test_broken_data_is_looked_at_instead_of_learned(
    asking: Project, receiver: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged(tmp_path, *shifted(asking), *([b"broken"] * 100))
    receiver.status = 500
    with pytest.raises(ProjectError, match="answered 500"):
        watch(asking, tmp_path, "--request")
    assert "of the log's lines are not usable" in capsys.readouterr().out
    receiver.status = 204
    watch(asking, tmp_path, "--request")
    assert [json.loads(body)["event"] for _, _, body in receiver.got] == ["data-quality"] * 2


def test_where_nobody_adds_words_settings_ask_about_a_window_that_ended_days_ago(
    asking: Project, receiver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged(tmp_path, *shifted(asking, days_ago=10), *([b"broken"] * 100))
    monkeypatch.setenv("MONITOR_DELAY_DAYS", "7")
    _, report = watch(asking, tmp_path)
    assert timedelta(days=7) <= datetime.now(UTC) - report.until < timedelta(days=7, hours=1)
    assert (report.log.rows > 0, receiver.got) == (True, [])
    monkeypatch.setenv("MONITOR_REQUESTS", "true")
    watch(asking, tmp_path)
    assert [json.loads(body)["event"] for _, _, body in receiver.got] == ["data-quality"]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "nowhere to send"),
        ({"retrain_webhook": "http://example.com", "retrain_secret": "s"}, "https://"),
        ({"retrain_webhook": "https://example.com"}, "RETRAIN_SECRET"),
    ],
)
def test_a_request_goes_only_where_it_is_safe(variables: Entry, said: str) -> None:
    with pytest.raises(ProjectError, match=said):
        retraining.destination(Settings(**variables), "retrain")


def test_github_is_asked_by_dispatch_and_told_by_issue() -> None:
    settings = Settings(github_repository="o/r", github_token="t")  # noqa: S106
    for kind, path in (("retrain", "dispatches"), ("data-quality", "issues")):
        address = retraining.destination(settings, kind)
        assert address == f"https://api.github.com/repos/o/r/{path}"


@pytest.mark.parametrize(
    ("days", "outcome", "answered", "said"),
    [
        (1, "done", False, "still open"),
        (1, "intended", False, "still open"),  # its process was killed; it may have been sent
        (1, "done", True, "cooldown"),
        (5, "done", True, ""),
        (8, "done", False, ""),
        (1, "refused", False, ""),
    ],
)
def test_an_open_request_and_the_cooldown_are_waited_for(
    days: int, outcome: str, answered: bool, said: str
) -> None:
    alarm: Entry = {"verdict": "alarm", "quality": False, "performance": None, "prediction": None}
    report = Report.model_construct(**alarm, together=[], features=[])
    rules = DriftConfig.model_validate(
        {"metrics": {"m": {"better": "lower", "tolerance": 0}}, "consecutive": 1}
    )
    asked_ms = int((NOW - timedelta(days=days)).timestamp() * 1000)
    event = Event("1", "retrain", "monitoring", outcome, None, None, asked_ms, {})
    past = retraining.Past([event], [], asked_ms + 1 if answered else 0)
    blocked = retraining.decide(report, past, rules, NOW).blocked
    assert said in blocked[0] if said else not any("request" in reason for reason in blocked)
    assert any("0 labels have arrived" in reason for reason in blocked)


def test_whoever_sees_another_request_stands_back(
    asking: Project, receiver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged(tmp_path, *shifted(asking), *([b"broken"] * 100))
    monkeypatch.setattr(journal, "close", lambda *_: None)  # both are cut off
    watch(asking, tmp_path, "--request")
    monkeypatch.setattr(retraining, "_asked_already", lambda *_: [])  # neither saw the other
    monkeypatch.setattr(Store, "history", unseen_first(Store.history))
    _, report = watch(asking, tmp_path, "--request")
    assert report.request is not None
    assert report.request.blocked == ["another monitor is asking at this moment"]
    assert len(receiver.got) == 1


def unseen_first(history: Callable[[Store], list[Event]]) -> Callable[[Store], list[Event]]:
    """Return a history that is empty when it is read for the first time."""
    reads = iter([True])
    return lambda store: [] if next(reads, False) else history(store)
