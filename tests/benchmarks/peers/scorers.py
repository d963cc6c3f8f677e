"""What every peer serves: the project's own model, natively with pandas or from its bundle.

SERVED names a folder with `native.pickle` and `bundle/`; PACKAGE is the project's package, which
is on the path. Pickle is fine here: the benchmark wrote the file itself a moment ago.
"""

import os
import pickle
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["SERVED"])
PACKAGE = os.environ["PACKAGE"]
Records = Sequence[dict[str, Any]]


def on_frames() -> Callable[[Any], list[float]]:
    """Return the framework's own predict over a DataFrame."""
    predict = import_module(f"{PACKAGE}.model").predict
    model_frame = import_module(f"{PACKAGE}.frames").model_frame
    model = pickle.loads((FOLDER / "native.pickle").read_bytes())  # noqa: S301
    return lambda frame: predict(model, model_frame(frame)).tolist()


def native() -> Callable[[Records], list[float]]:
    """Return what most people write: a DataFrame per request, then the framework's predict."""
    frame_of = import_module("pandas").DataFrame.from_records
    score = on_frames()
    return lambda records: score(frame_of(records))


def onnx() -> Callable[[Records], list[float]]:
    """Return the exported model that our own service runs."""
    scorer = import_module(f"{PACKAGE}.bundle").load(FOLDER / "bundle")
    return lambda records: scorer(records).tolist()


def chosen() -> Callable[[Records], list[float]]:
    """Return the one that SCORER names."""
    return onnx() if os.environ["SCORER"] == "onnx" else native()
