"""Start the service: resolve the model once, load it, then listen."""

import contextlib
import gc
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from ..errors import TERMINATED, RegistryError
from ..settings import PACKAGE, Settings, load
from .board import FOLDER, Board, publish_first
from .observe import SHARED, start_logging
from .protocol import Protocol

DRAIN_SECONDS = 8  # platforms kill a process ten seconds after they told it to stop
SILENT_SECONDS = 30  # a worker that is starved of the CPU is not yet one that hangs
IDLE_SECONDS = 75  # longer than load balancers keep an idle connection, which is 60 seconds


def main(_arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; a model that cannot be had or used stops it before it listens."""
    settings = load()
    with _scratch(settings) as folder:
        board = Board(folder if settings.workers > 1 else None)
        publish_first(settings, board, folder)
        if settings.workers > 1:
            _share(folder)
            gc.enable()  # this process serves nothing
            service: Any = f"{PACKAGE}.serving.app:worker"
        else:
            from .app import application  # the workers' parent does without

            service = application(settings, board, folder)
        start_logging(settings.log_level)
        _listen(service, settings)
    return 0


@contextlib.contextmanager
def _scratch(settings: Settings) -> Iterator[Path]:
    """Give a folder of this service's own, or the bundle's where nothing has to be written."""
    if settings.model_bundle is not None and settings.workers == 1:
        yield settings.model_bundle
        return
    try:
        scratch = tempfile.TemporaryDirectory(prefix=f"{PACKAGE}-")
    except OSError as error:
        raise RegistryError(f"{error}; set TMPDIR to a folder that can be written to") from None
    with scratch as folder:
        yield Path(folder)


def _share(folder: Path) -> None:
    """Tell the workers, through the environment they inherit, where they meet."""
    counts = folder / "metrics"
    counts.mkdir()
    os.environ.update({FOLDER: str(folder), SHARED: str(counts)})


def _listen(service: Any, settings: Settings) -> None:
    try:
        uvicorn.run(
            service,
            factory=settings.workers > 1,
            workers=settings.workers,
            host=settings.host,
            port=settings.port,
            http=Protocol,
            ws="none",
            log_config=None,
            log_level=settings.log_level,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            timeout_worker_healthcheck=SILENT_SECONDS,
        )
    except SystemExit as stopped:
        # uvicorn has drained its requests and raised SIGTERM again: it did as it was told.
        if stopped.code != TERMINATED:
            raise
