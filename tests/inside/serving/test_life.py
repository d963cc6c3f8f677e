"""Real processes under load: stopped, killed, starved and kept waiting, without a wrong answer."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from ...frames import model_frame, to_instances
from ...serving import protocol
from ..conftest import Project
from ..test_serving import one, scores
from .conftest import Server, wait


def flood(server: Server, until: threading.Event) -> list[Any]:
    """Ask for the example over and over; return the answers and what was not 200."""
    found: list[Any] = []
    with httpx.Client(base_url=server.client.base_url, timeout=30) as client:
        while not until.is_set():
            try:
                answer = client.post("/predict", content=one())
            except httpx.TransportError:
                time.sleep(0.01)
                continue
            found.append(answer.json() if answer.status_code == 200 else answer.status_code)
    return found


def test_a_row_has_the_same_bits_alone_in_a_batch_and_among_64_connections(
    serve: Callable[..., Server], trained: Project
) -> None:
    server = serve()
    rows = to_instances(model_frame(trained.pipeline().split("holdout").head(64)))
    alone = [scores(server.ask(row))[0] for row in rows]
    assert scores(server.ask(*rows)) == alone

    def ask(row: dict[str, Any]) -> Any:
        with httpx.Client(base_url=server.client.base_url, timeout=60) as client:
            return scores(client.post("/predict", json={"instances": [row]}).json())[0]

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(ask, rows * 3)) == alone * 3


def test_a_request_in_flight_is_answered_when_told_to_stop(serve: Callable[..., Server]) -> None:
    server = serve()
    body = one()
    with socket.create_connection(("127.0.0.1", server.client.base_url.port or 0)) as client:
        head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[:10])
        time.sleep(0.3)
        server.process.terminate()
        time.sleep(0.7)
        client.sendall(body[10:])
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert server.process.wait(10) == 0


def test_stopping_under_load_gives_no_wrong_answer(serve: Callable[..., Server]) -> None:
    server, until = serve(), threading.Event()
    expected = server.ask()
    with ThreadPoolExecutor(8) as pool:
        floods = [pool.submit(flood, server, until) for _ in range(8)]
        try:
            time.sleep(1)
            server.process.terminate()
            assert server.process.wait(12) == 0
        finally:
            until.set()
    answers = [answer for each in floods for answer in each.result()]
    assert len(answers) > 50
    assert all(answer == expected for answer in answers)


def test_a_killed_worker_is_replaced_and_no_answer_is_wrong(serve: Callable[..., Server]) -> None:
    server, until = serve(WORKERS="2"), threading.Event()
    expected, before = server.ask(), set(server.workers())
    with ThreadPoolExecutor(8) as pool:
        floods = [pool.submit(flood, server, until) for _ in range(8)]
        try:
            time.sleep(0.5)
            os.kill(min(before), signal.SIGKILL)
            wait(
                lambda: len(server.workers()) == len(before) and min(before) not in server.workers()
            )
            time.sleep(0.5)
        finally:
            until.set()
    assert all(answer == expected for each in floods for answer in each.result())
    assert server.ask() == expected
    server.process.terminate()
    assert server.process.wait(20) == 0


def test_workers_do_not_outlive_a_killed_parent(serve: Callable[..., Server]) -> None:
    server = serve(WORKERS="2")
    workers = server.workers()
    assert len(workers) == 2
    server.process.kill()
    wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_a_full_disk_under_the_logs_costs_no_answer(serve: Callable[..., Server]) -> None:
    with Path("/dev/full").open("w") as full:
        server = serve(stdout=full, stderr=full, PREDICTION_LOG="-", LOG_LEVEL="info")
        assert server.ask()["predictions"]
    lost = "prediction_log_dropped_total 1.0"
    assert lost in server.client.get("/metrics").text.splitlines()


async def reads_on(_scope: Scope, receive: Receive, _send: Send) -> None:
    """Wait for the end of the body, like a route that needs it."""
    while (await receive()).get("more_body"):
        pass


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b"HTTP/1.1 408"),
        (b"GET / HTTP/1.1\r\nx-slow: ", b"HTTP/1.1 408"),
        (b"POST /read HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc", b"HTTP/1.1 408"),
        (b"GET / HTTP/1.1\r\n" + b"x: 123456789\r\n" * 6000, b"HTTP/1.1 431"),
    ],
    ids=["nothing", "half a head", "half a body", "endless head"],
)
def test_a_client_that_never_ends_is_cut_off(
    sent: bytes, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "CLIENT_SECONDS", 0.3)
    server = uvicorn.Server(
        uvicorn.Config(reads_on, port=0, http=protocol.Protocol, lifespan="off", ws="none")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait(lambda: server.started)
    address = server.servers[0].sockets[0].getsockname()
    with socket.create_connection(address, timeout=10) as client, suppress(ConnectionResetError):
        client.sendall(sent)
        assert client.recv(100).startswith(answer)
        assert client.recv(100) in {b"", b"\r\n"}
    server.should_exit = True
    thread.join()
