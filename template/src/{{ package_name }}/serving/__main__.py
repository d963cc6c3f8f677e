"""Start the service: resolve the model once, then listen."""

import logging
from collections.abc import Sequence

import uvicorn

from ..errors import TERMINATED, run_command
from ..settings import load
from .app import create_app
from .predictor import load_predictor


def main(_arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; a model that cannot be had or used stops it before it listens."""
    settings = load()
    predictor = load_predictor(settings)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.info("serving %s version %s", predictor.version.name, predictor.version.number)
    try:
        uvicorn.run(
            create_app(predictor, settings),
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=8,
            log_level="info",
        )
    except SystemExit as stopped:
        # uvicorn has drained its requests and raised SIGTERM again: the server did as it was told.
        if stopped.code != TERMINATED:
            raise
    return 0


if __name__ == "__main__":
    run_command(main)
