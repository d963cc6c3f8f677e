"""Whatever a revision sends instead of an answer, a release ends with a sentence about it."""

import socketserver
import threading

import pytest

from ...release import smoke
from ...release.interface import Endpoint
from .conftest import release

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
