"""Whatever a revision sends instead of an answer, a release ends with a sentence about it."""

import socketserver
import threading
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path

import pytest

from ...contract import example
from ...monitoring.records import Reading, Window
from ...release import smoke
from ...release.interface import Endpoint
from ...release.manifest import load_model
from ...serving.fetch import fetch
from ...serving.source import RECORD, resolve
from ..conftest import Project, client_of
from .conftest import answering, release

BROKEN = b"HTTP/1.1 502 Bad\r\n"
SENT = {
    "cut off": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "does not answer: Incomplete"),
    "not HTTP": (b"SSH-2.0-example\r\n\r\n", "does not answer: SSH"),
    "nothing": (b"", "does not answer: Remote end closed"),
    "not text": (b"HTTP/1.1 200 OK\r\n\r\n{\xff", "does not answer: 'utf-8' codec"),
    "no object": (b"HTTP/1.1 200 OK\r\n\r\n[]", r"answers \[\]"),
    "a character in two": (BROKEN + b"\r\n" + b"x" * 199 + "é".encode(), "answers 502: xxx"),
    "an error that is cut off": (
        BROKEN + b"Transfer-Encoding: chunked\r\n\r\nff\r\nx",
        "does not answer: Incomplete",
    ),
}


@pytest.mark.parametrize(("sent", "said"), SENT.values(), ids=SENT)
def test_what_is_no_answer_is_told_in_a_sentence(sent: bytes, said: str) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(sent)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        endpoint = Endpoint(f"http://127.0.0.1:{server.server_address[1]}")
        with pytest.raises(smoke.SmokeError, match=f"not ready within 0 s: /version {said}"):
            smoke.check(endpoint, release(1).model, ready_seconds=0)
        server.shutdown()


def test_what_a_release_asks_is_logged_and_no_prediction_to_monitor(
    project: Project, tmp_path: Path
) -> None:
    """The service knows its bundle alone, by which the log names the model."""
    project.promote()
    bundle, log = tmp_path / "served", tmp_path / "log"
    fetch(project.settings, resolve, bundle)
    alone = {"model_bundle": bundle, "model_name": "other", "prediction_log": str(log)}
    with client_of(project.settings.model_copy(update=alone), bundle) as client:

        def answer(path: str, headers: Message, body: bytes) -> tuple[int, object]:
            method = "POST" if body else "GET"
            found = client.request(method, path, content=body, headers=dict(headers.items()))
            return found.status_code, found.json()

        with answering(answer) as address:
            smoke.check(Endpoint(address), load_model(bundle / RECORD), ready_seconds=0)
        client.post("/predict", json={"instances": [example()]})
    served, now, hour = project.version(), datetime.now(UTC), timedelta(hours=1)
    reading = Reading(Window(now - hour, now + hour, served["name"], served["version"]))
    batches = list(reading.batches(str(log)))
    assert [len(batch.scores) for batch in batches] == [1]
    assert +reading.excluded == {"smoke_test": 4}
