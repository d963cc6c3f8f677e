"""What happens to a request for predictions, whichever route it came by."""

from collections.abc import Callable
from typing import Any

from fastapi import HTTPException, Request

from ..contract import FEATURES
from ..settings import Settings
from . import observe
from .answer import PredictResponse, answer, count
from .batcher import Batcher, LateError, ModelError, Served
from .guard import Room, check_key, overloaded
from .prediction_log import open_log
from .request import Parser, read_body

MISSING = {each.name: observe.MISSING.labels(each.name) for each in FEATURES if each.nullable}
Rows = list[dict[str, Any]]


class Predictor:
    """Admits, reads, holds against the contract, scores in a batch, counts and logs."""

    def __init__(self, current: Callable[[], Served], settings: Settings) -> None:
        self.parser = Parser(settings.max_instances)
        self._limit = settings.max_body_bytes
        self._keys = settings.keys()
        self._room = Room(settings)
        self._batcher = Batcher(current, settings.request_seconds)
        self._log = open_log(settings)
        self._dropped = 0

    async def __call__(self, request: Request, read: Callable[[bytes], Rows]) -> PredictResponse:
        """Return the answer for the instances that `read` finds in the body.

        Raises
        ------
        HTTPException
            4xx for what the client can mend, 503 where there is no room, 500 where the model fails.
        """
        check_key(request, self._keys)
        size = self._room.enter(request)
        try:
            instances = read(await read_body(request, self._limit))
            scores, served = await self._batcher.score(instances)
        except LateError:
            raise overloaded("deadline") from None
        except ModelError:
            raise HTTPException(500, "the model gave no number for an instance") from None
        finally:
            self._room.leave(size)
        self._log.write(request.scope["state"]["request_id"], served.release, instances, scores)
        count(scores)
        self._count(instances)
        return answer(scores, served.release)

    def _count(self, instances: Rows) -> None:
        for name, counted in MISSING.items():
            if missing := [instance[name] for instance in instances].count(None):
                counted.inc(missing)
        if self._log.dropped > self._dropped:
            observe.DROPPED.inc(self._log.dropped - self._dropped)
            self._dropped = self._log.dropped
