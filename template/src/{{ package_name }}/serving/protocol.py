"""HTTP as uvicorn speaks it, with a bound on how long and how large a request may be in coming.

uvicorn itself waits for ever for the rest of a request, and keeps any number of header lines.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CLIENT_SECONDS = 10.0
HEAD_BYTES = 65_536


class Protocol(HttpToolsProtocol):
    """Runs a clock while a request is incomplete; one that arrives at once costs nothing more."""

    _clock: asyncio.TimerHandle | None = None
    _in_head = True
    _incomplete = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        super().connection_made(transport)
        self._clock = self.loop.call_later(CLIENT_SECONDS, self._give_up, 408)

    def data_received(self, data: bytes) -> None:
        """Take what arrived, and start or stop the clock."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._give_up(431)
        if not self._incomplete:
            self._stop_clock()
        elif self._clock is None and not self.transport.is_closing():
            self._clock = self.loop.call_later(CLIENT_SECONDS, self._give_up, 408)

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self._in_head = self._incomplete = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that its head is complete."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that it is complete."""
        self._incomplete = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _give_up(self, status: int) -> None:
        """Close the connection, with an answer if none was begun."""
        self._clock = None
        if self.transport.is_closing():
            return
        if self._in_head or not self.cycle.response_started:
            head = f"HTTP/1.1 {status} Too Slow Or Too Large\r\n"
            self.transport.write(f"{head}content-length: 0\r\nconnection: close\r\n\r\n".encode())
        self.transport.close()
