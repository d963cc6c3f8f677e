"""MLServer's runtime: the Open Inference Protocol, one JSON instance per row of `instances`."""

import json

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from numpy import array
from scorers import chosen


class Runtime(MLModel):
    """Scores rows that arrive as JSON texts, so that MLServer's own batching can join them."""

    async def load(self) -> bool:
        """Load the model."""
        self.score = chosen()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score the rows of one request, or of several that were joined."""
        rows = [json.loads(text) for text in StringCodec.decode_input(payload.inputs[0])]
        scores = array(self.score(rows)).reshape(-1, 1)
        output = NumpyCodec.encode_output("scores", scores)
        return InferenceResponse(model_name=self.name, outputs=[output])
