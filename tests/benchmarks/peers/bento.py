"""BentoML: `bentoml serve bento:Service --port PORT`; batching where SCORER is onnx."""

import os
from typing import Any

import bentoml
from scorers import chosen

BATCHED = os.environ["SCORER"] == "onnx"


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 2000})
class Service:
    """One endpoint."""

    def __init__(self) -> None:
        self.score = chosen()

    @bentoml.api(batchable=BATCHED, max_batch_size=1024, max_latency_ms=2000)
    def predict(self, instances: list[dict[str, Any]]) -> list[float]:
        """Score the instances; BentoML joins those of several requests."""
        return self.score(instances)
