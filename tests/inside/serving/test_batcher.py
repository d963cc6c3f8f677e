"""A lone request runs at once, concurrent ones together, and none fails or delays the others."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ...bundle import describe
from ...serving.batcher import Batcher, LateError, ModelError, Served, tried
from ...serving.source import Release

ABOUT = describe("onnx")
RELEASE = Release(name="m", version="1", stage="production", sha256=None, bundle_sha256="0")


class Engine:
    """Doubles each instance's `x`, and remembers the sizes of its batches."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[int] = []

    def __call__(self, instances: Sequence[Any]) -> NDArray[np.float64]:
        self.batches.append(len(instances))
        time.sleep(self.seconds)
        return np.array([instance["x"] * 2.0 for instance in instances])


def run(engine: Engine, *wanted: list[Any], inline: int = 100, seconds: float = 9.0) -> list[Any]:
    """Ask for several requests at once; return each one's scores or error."""

    async def asked() -> list[Any]:
        batcher = Batcher(lambda: Served(RELEASE, engine, ABOUT, inline), seconds)
        scores: list[Coroutine[Any, Any, Any]] = [
            batcher.score([{"x": x} for x in request]) for request in wanted
        ]
        return await asyncio.gather(*scores, return_exceptions=True)

    return [
        found if isinstance(found, Exception) else found[0].tolist()
        for found in asyncio.run(asked())
    ]


@pytest.mark.parametrize("inline", [0, 100])
def test_requests_that_arrive_together_run_together(inline: int) -> None:
    engine = Engine()
    assert run(engine, [1], [2, 3], [4], inline=inline) == [[2], [4, 6], [8]]
    assert engine.batches == [4]


def test_batches_are_bounded_and_keep_requests_whole() -> None:
    engine = Engine()
    assert run(engine, [1] * 1000, [2] * 1000, [3]) == [[2] * 1000, [4] * 1000, [6]]
    assert engine.batches == [1000, 1001]


def test_what_the_model_cannot_score_fails_no_other_request() -> None:
    good, bad, also_good, nan = run(Engine(), [1], ["x"], [3], [float("nan")])
    assert (good, also_good) == ([2], [6])
    assert isinstance(bad, ModelError)
    assert isinstance(nan, ModelError)


def test_a_request_that_waited_too_long_is_not_scored() -> None:
    engine = Engine(seconds=0.1)
    first, second = run(engine, [1] * 1000, [2] * 1000, seconds=0.05)
    assert len(first) == 1000
    assert isinstance(second, LateError)


def test_a_long_batch_leaves_the_event_loop_free() -> None:
    async def ticks() -> int:
        batcher = Batcher(lambda: Served(RELEASE, Engine(seconds=0.3), ABOUT, 10), 9.0)
        scored = asyncio.create_task(batcher.score([{"x": 1}] * 11))
        counted = 0
        while not scored.done():
            await asyncio.sleep(0.01)
            counted += 1
        return counted

    assert asyncio.run(ticks()) > 5


def test_a_slow_model_never_runs_on_the_event_loop() -> None:
    def engine(seconds: float) -> Any:
        def score(instances: Sequence[Any]) -> NDArray[np.float64]:
            time.sleep(seconds * len(instances))
            return np.zeros(len(instances))

        return score

    assert tried(RELEASE, engine(0.006), ABOUT).inline_rows == 0
    assert 1 <= tried(RELEASE, engine(0.0005), ABOUT).inline_rows <= 10
