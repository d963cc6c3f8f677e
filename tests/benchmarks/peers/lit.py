"""LitServe: `python lit.py PORT`; batching where SCORER is onnx."""

import os
import sys
from typing import Any

import litserve
from scorers import chosen

BATCHED = os.environ["SCORER"] == "onnx"
Instances = list[dict[str, Any]]


class Api(litserve.LitAPI):
    """One endpoint; a batch is a list of requests, each with its own instances."""

    def setup(self, device: str) -> None:
        """Load the model."""
        del device
        self.score = chosen()

    def decode_request(self, request: dict[str, Any]) -> Instances:
        """Take the instances out of the body."""
        return request["instances"]

    def batch(self, inputs: list[Instances]) -> list[Instances]:
        """Keep the requests apart."""
        return inputs

    def predict(self, inputs: Any) -> Any:
        """Score one request, or several at once."""
        if not BATCHED:
            return self.score(inputs)
        scores = iter(self.score([each for request in inputs for each in request]))
        return [[next(scores) for _ in request] for request in inputs]

    def unbatch(self, output: Any) -> Any:
        """Return each request's own scores."""
        return output

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """Name the answer."""
        return {"predictions": output}


if __name__ == "__main__":
    size = {"max_batch_size": 64, "batch_timeout": 0.001} if BATCHED else {}
    server = litserve.LitServer(Api(**size), accelerator="cpu", timeout=60)
    server.run(
        port=int(sys.argv[1]), host="127.0.0.1", log_level="warning", generate_client_file=False
    )
