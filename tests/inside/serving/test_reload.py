"""A service follows its alias without a gap, and keeps what it has when the news is bad."""

import asyncio
import base64
import hashlib
import hmac
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ...contract import example
from ...digests import tree_digest
from ...serving import keeper
from ...serving.app import application
from ...serving.board import Board, Published, publish_first
from ...serving.source import RECORD
from ...settings import Settings
from ..conftest import client_of
from .conftest import Server, release_as, wait

SECRET = "s3cret"  # noqa: S105


@pytest.fixture
def client(baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(keeper, "TICK_SECONDS", 0.02)
    settings = Settings(_env_file=None, model_bundle=baked, reload_seconds=0.02)
    with client_of(settings, tmp_path) as client:
        yield client


def about(client: TestClient) -> Any:
    return client.get("/version").json()


def still_answers(client: TestClient) -> bool:
    answer = client.post("/predict", json={"instances": [example()]})
    ready = client.get("/readyz").status_code == 200
    return ready and str(answer.json()["model"]["version"]) == "1"


def count(client: TestClient, outcome: str) -> float:
    line = f'model_reloads_total{{outcome="{outcome}"}} '
    return sum(
        float(row.removeprefix(line))
        for row in client.get("/metrics").text.splitlines()
        if row.startswith(line)
    )


def test_a_new_version_takes_over(client: TestClient, baked: Path) -> None:
    before = count(client, "swapped")
    release_as(baked, version="2")
    wait(lambda: about(client)["model_version"] == "2")
    assert count(client, "swapped") == before + 1
    assert 'version="2"' in client.get("/metrics").text


def test_altered_files_are_refused_and_it_says_so(client: TestClient, baked: Path) -> None:
    before = count(client, "refused")
    with (baked / "bundle.json").open("a") as content:
        content.write(" ")
    release_as(baked, version="2")
    wait(lambda: about(client)["registry"]["refused"] == "2")
    assert "altered or truncated" in about(client)["registry"]["reason"]
    assert still_answers(client)
    time.sleep(0.2)
    assert count(client, "refused") == before + 1  # it is not fetched again at every look
    (baked / "bundle.json").write_bytes((baked / "bundle.json").read_bytes()[:-1])
    release_as(baked, version="3")
    wait(lambda: about(client)["model_version"] == "3")


class Planted:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_planted_pickle_is_refused_and_runs_nothing(
    client: TestClient, baked: Path, tmp_path: Path
) -> None:
    for path in baked.iterdir():
        if path.name not in {RECORD, "bundle.json"}:
            path.write_bytes(pickle.dumps(Planted(tmp_path / "ran")))
    digest = tree_digest(baked, frozenset({RECORD}))
    release_as(baked, version="2", bundle_sha256=digest)
    wait(lambda: about(client)["registry"]["refused"] == "2")
    assert still_answers(client)
    assert not (tmp_path / "ran").exists()


def test_it_stays_ready_while_the_registry_is_away(client: TestClient, baked: Path) -> None:
    baked.rename(baked.with_name("away"))
    wait(lambda: about(client)["registry"]["problem"])
    assert still_answers(client)
    baked.with_name("away").rename(baked)
    wait(lambda: not about(client)["registry"]["problem"])


def test_a_signed_webhook_makes_it_look(
    baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "TICK_SECONDS", 0.02)
    settings = Settings(_env_file=None, model_bundle=baked, reload_seconds=0, webhook_secret=SECRET)

    def sent(client: TestClient, body: bytes, seconds_ago: int = 0) -> int:
        stamp = str(int(time.time()) - seconds_ago)
        signed = hmac.digest(SECRET.encode(), f"id.{stamp}.".encode() + b"{}", hashlib.sha256)
        headers = {
            "X-MLflow-Delivery-Id": "id",
            "X-MLflow-Timestamp": stamp,
            "X-MLflow-Signature": f"v1,{base64.b64encode(signed).decode()}",
        }
        return int(client.post("/hooks/registry", content=body, headers=headers).status_code)

    with client_of(settings, tmp_path) as client:
        release_as(baked, version="2")
        assert client.post("/hooks/registry", content=b"{}").status_code == 401
        assert (sent(client, b"[]"), sent(client, b"{}", seconds_ago=900)) == (401, 401)
        time.sleep(0.2)
        assert about(client)["model_version"] == "1"
        assert sent(client, b"{}") == 202
        wait(lambda: about(client)["model_version"] == "2")


def test_workers_wait_for_the_same_moment(
    baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(_env_file=None, model_bundle=baked, workers=2)
    board = Board(tmp_path)
    first = publish_first(settings, board, tmp_path)
    workers = [
        keeper.Keeper(settings, Board(tmp_path), tmp_path, keeper.load(baked, first.release))
        for _ in range(2)
    ]
    release_as(baked, version="2")
    moment = time.time() + 1000
    second = first.release.model_copy(update={"version": "2"})
    board.write(Published(folder=baked, release=second, from_time=moment))
    asked: list[tuple[float, str]] = []

    async def sleep(seconds: float) -> None:
        asked.append((time.time() + seconds, worker.served.release.version))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for worker in workers:
        asyncio.run(worker.follow())
    monkeypatch.setattr(time, "sleep", lambda seconds: asked.append((time.time() + seconds, "1")))
    application(settings, Board(tmp_path), tmp_path)  # a worker that is started meanwhile
    assert [when for when, _ in asked] == pytest.approx([moment] * 3, abs=1)
    assert [version for _, version in asked] == ["1"] * 3
    assert [worker.served.release.version for worker in workers] == ["2", "2"]


def test_workers_switch_together(serve: Callable[..., Server], baked: Path) -> None:
    server = serve(WORKERS="2", RELOAD_SECONDS="0.2")
    release_as(baked, version="2")
    answers: list[tuple[float, str]] = []

    def switched() -> bool:
        start = time.monotonic()
        server.client.headers["connection"] = "close"  # each request may reach the other worker
        answers.append((start, server.ask()["model"]["version"]))
        return len(answers) > 30 and {version for _, version in answers[-30:]} == {"2"}

    wait(switched)
    last_of_old = max(start for start, version in answers if version == "1")
    first_of_new = min(start for start, version in answers if version == "2")
    assert last_of_old - first_of_new < keeper.LOADING_SECONDS / 2
