"""Run inside a rendered project: predict without the service, as the pipeline's code does.

Usage: python offline.py PACKAGE < INSTANCES.json > SCORES.json

The model is the one that training left in artifacts/; registry and service are not involved.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

package = sys.argv[1]
frames, model, model_format = (
    import_module(f"{package}.{name}") for name in ("frames", "model", "model_format")
)
trained = model_format.load(Path("artifacts") / "train")
scores = model.predict(trained, frames.to_frame(json.load(sys.stdin)))
json.dump(scores.tolist(), sys.stdout)
