"""Adaptive micro-batching: a lone request runs at once, those that arrive meanwhile run together.

One inference runs at a time. A batch that takes less than BLOCK_SECONDS runs on the event loop,
because handing it to a thread and back costs more than it does; a longer one runs in the one worker
thread, so that health checks and other connections are answered meanwhile.
"""

import asyncio
import logging
import timeit
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ..bundle import Description, Instances, Scores
from ..contract import example
from ..errors import RegistryError, first_line
from .observe import BATCH_SIZE, QUEUE_DEPTH
from .source import Release

Scorer = Callable[[Instances], Scores]

BLOCK_SECONDS = 0.005
PROBE_ROWS = 64
LARGEST_BATCH = 1024
log = logging.getLogger(__name__)


class ModelError(Exception):
    """The model gave no number for an instance."""


class LateError(Exception):
    """A request waited longer than it may."""


@dataclass(frozen=True)
class Served:
    """A loaded model, the version it is, and how many instances it may score on the event loop."""

    release: Release
    scorer: Scorer
    about: Description
    inline_rows: int


@dataclass(slots=True)
class Waiting:
    """A request that has not been scored yet."""

    instances: Instances
    deadline: float
    answer: asyncio.Future[tuple[Scores, Served]]


class Batcher:
    """Scores what requests ask for, with the model that is current when their batch starts."""

    def __init__(self, current: Callable[[], Served], seconds: float) -> None:
        self._current = current
        self._seconds = seconds
        self._queue: deque[Waiting] = deque()
        self._due = False  # a batch starts when the event loop has read what has arrived
        self._busy = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="inference")

    async def score(self, instances: Instances) -> tuple[Scores, Served]:
        """Return one score per instance, and the model that gave them.

        Raises
        ------
        LateError
            The request's turn did not come in time.
        ModelError
            The model gave no number for one of the instances.
        """
        loop = asyncio.get_running_loop()
        waiting = Waiting(instances, loop.time() + self._seconds, loop.create_future())
        self._queue.append(waiting)
        self._schedule(loop)
        return await waiting.answer

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._queue and not (self._due or self._busy):
            self._due = True
            loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = False
        QUEUE_DEPTH.set(len(self._queue))
        batch = self._next_batch(loop.time())
        rows = sum(len(waiting.instances) for waiting in batch)
        if batch:
            BATCH_SIZE.observe(rows)
            served = self._current()
            if rows <= served.inline_rows:
                _deliver(batch, served, outcome(served, [w.instances for w in batch]))
            else:
                self._busy = True
                loop.create_task(self._in_thread(loop, batch, served)).add_done_callback(_told)
        self._schedule(loop)

    def _next_batch(self, now: float) -> list[Waiting]:
        batch: list[Waiting] = []
        rows = 0
        while self._queue and (not batch or rows + len(self._queue[0].instances) <= LARGEST_BATCH):
            waiting = self._queue.popleft()
            if waiting.answer.done():  # its client went away
                continue
            if waiting.deadline < now:
                waiting.answer.set_exception(LateError())
                continue
            batch.append(waiting)
            rows += len(waiting.instances)
        return batch

    async def _in_thread(
        self, loop: asyncio.AbstractEventLoop, batch: list[Waiting], served: Served
    ) -> None:
        asked = [waiting.instances for waiting in batch]
        found = await loop.run_in_executor(self._worker, outcome, served, asked)
        _deliver(batch, served, found)
        self._busy = False
        self._schedule(loop)


def _told(task: asyncio.Task[None]) -> None:
    """Keep a reference to the task until it is done, and its error from vanishing."""
    task.result()


def _deliver(batch: list[Waiting], served: Served, found: list[Scores | ModelError]) -> None:
    for waiting, each in zip(batch, found, strict=True):
        if waiting.answer.done():
            continue
        if isinstance(each, ModelError):
            waiting.answer.set_exception(each)
        else:
            waiting.answer.set_result((each, served))


def outcome(served: Served, asked: list[Instances]) -> list[Scores | ModelError]:
    """Score several requests at once; if that fails, each alone, so that one cannot fail others."""
    try:
        scores = _scores(served.scorer, [each for instances in asked for each in instances])
    except ModelError as error:
        if len(asked) > 1:
            return [outcome(served, [instances])[0] for instances in asked]
        log.exception("%s failed", served.release)
        return [error]
    if len(asked) == 1:
        return [scores]
    ends = [*accumulate(map(len, asked))]
    return [scores[end - len(instances) : end] for end, instances in zip(ends, asked, strict=True)]


def _scores(scorer: Scorer, instances: Instances) -> Scores:
    try:
        scores = scorer(instances)
    except Exception as error:
        raise ModelError(str(error) or type(error).__name__) from error
    if scores.shape != (len(instances),) or not np.isfinite(scores).all():
        raise ModelError("an instance has no score, or one that is no finite number")
    return scores


def tried(release: Release, scorer: Scorer, about: Description) -> Served:
    """Predict with a loaded model, and measure how many instances it may score on the event loop.

    Raises
    ------
    RegistryError
        It predicts no number for the schema's example.
    """
    try:
        _scores(scorer, [example()])
    except ModelError as error:
        reason = first_line(error)
        raise RegistryError(f"{release} does not predict the schema's example: {reason}") from None
    one, many = (_seconds(scorer, rows) for rows in (1, PROBE_ROWS))
    each = max((many - one) / (PROBE_ROWS - 1), 1e-9)
    rows = int((BLOCK_SECONDS - one) / each)
    return Served(release, scorer, about, min(max(rows, 0), LARGEST_BATCH))


def _seconds(scorer: Scorer, rows: int) -> float:
    """Return how long a batch takes when nothing else runs: the shortest of three."""
    instances = [example()] * rows
    return min(timeit.repeat(lambda: scorer(instances), number=1, repeat=3))
