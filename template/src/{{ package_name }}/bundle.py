"""The bundle: what a service loads. A folder with the exported model and a note on what it takes.

Nothing in a bundle can run code. An exported model is an ONNX graph (https://onnx.ai), which the
service runs without the library that trained it; a model that could not be exported travels in its
own safe format instead, and then the service needs that library.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from .contract import CATEGORIES, NUMBERS
from .errors import RegistryError, first_line

DESCRIPTION = "bundle.json"
GRAPH = "model.onnx"
# Names that no feature can have, so that a graph may name its inputs after the features.
CATEGORY_INPUT, NUMBER_INPUT, SCORES = "in.categories", "in.numbers", "out.scores"
# How far an exported model's scores may be from the trained one's: of scores of about one, and
# relative to larger ones. Sums in single precision keep to it; a tree whose split is crossed
# by rounding does not.
TOLERANCE = 1e-5
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
# A missing category, as text: a Unicode noncharacter, which no text means.
MISSING = "\ufdd0"

Scores = NDArray[np.float64]
Instances = Sequence[Mapping[str, Any]]


class Description(BaseModel):
    """bundle.json: how the bundle is read, and the features it was exported for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    runtime: Literal["onnx", "native"]
    categories: list[str]
    numbers: list[str]
    note: str = ""


@dataclass(frozen=True)
class Scorer:
    """A loaded bundle: instances in, one score each out, shape (instances,).

    A score is what the model's own `predict` returns. An exported tree or network gives an instance
    the same bits whatever it is asked together with; single precision, to `TOLERANCE`.
    """

    description: Description
    _score: Callable[[Instances], Scores]

    def __call__(self, instances: Instances) -> Scores:
        """Return one score per instance."""
        return self._score(instances)


def describe(runtime: Literal["onnx", "native"], note: str = "") -> Description:
    """Return the description of a bundle for this project's features."""
    return Description(runtime=runtime, categories=CATEGORIES, numbers=NUMBERS, note=note)


def load(folder: Path, *, own_features: bool = False) -> Scorer:
    """Load a bundle, of the schema's features or, to compare models, of those it was made for.

    Raises
    ------
    RegistryError
        It is missing, damaged, of another format, or made for other features; or it needs the
        library that trained it, and that is not installed.
    """
    try:
        description = Description.model_validate_json((folder / DESCRIPTION).read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise RegistryError(f"{folder} holds no bundle that this service reads: {reason}") from None
    features = description.categories, description.numbers
    if features != (CATEGORIES, NUMBERS) and not own_features:
        raise RegistryError(f"{folder} was made for other features than schema.py: train again")
    if description.runtime == "onnx":
        return Scorer(description, graph(folder / GRAPH, *features))
    return Scorer(description, _native(folder))


def graph(
    path: Path, categories: Sequence[str] = CATEGORIES, numbers: Sequence[str] = NUMBERS
) -> Callable[[Instances], Scores]:
    """Return what runs an exported graph of these features, on one thread.

    One thread adds in one order, so answers do not depend on the machine, and several requests do
    not fight for its cores; a service scales by processes.

    Raises
    ------
    RegistryError
        The file is missing or is no graph with the inputs and the output of this project's.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what fails is raised, and told below
    # A graph may name files that hold its numbers. From bytes it cannot name those beside it, but
    # those of the working directory, unless it is told of a folder: this one cannot exist.
    nowhere = str(path.absolute() / "nowhere")
    options.add_session_config_entry(EXTERNAL_FOLDER, nowhere)
    try:
        session = ort.InferenceSession(path.read_bytes(), options, ["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - whatever a damaged file raises, it is its fault
        raise RegistryError(f"{path} is not a graph that can be run: {first_line(error)}") from None
    parts = {
        CATEGORY_INPUT: (categories, _texts, "tensor(string)"),
        NUMBER_INPUT: (numbers, _numbers, "tensor(double)"),
    }
    encoders = {name: part for name, part in parts.items() if part[0]}
    inputs = {each.name: each.type for each in session.get_inputs()}
    outputs = {each.name: each.type for each in session.get_outputs()}
    wanted = {name: kind for name, (_, _, kind) in encoders.items()}
    if inputs != wanted or outputs != {SCORES: "tensor(double)"}:
        raise RegistryError(f"{path} takes {inputs} and gives {outputs}, not what this code sends")

    def score(instances: Instances) -> Scores:
        feed = {name: encode(instances, columns) for name, (columns, encode, _) in encoders.items()}
        scores: Scores = session.run([SCORES], feed)[0]
        return scores

    return score


def _texts(instances: Instances, columns: Sequence[str]) -> NDArray[np.object_]:
    found = np.empty((len(instances), len(columns)), dtype=object)
    for row, instance in enumerate(instances):
        for column, name in enumerate(columns):
            value = instance.get(name)
            found[row, column] = MISSING if value is None else value
    return found


def _numbers(instances: Instances, columns: Sequence[str]) -> Scores:
    values = [[instance.get(name) for name in columns] for instance in instances]
    # A float64 array reads None as NaN.
    return np.array(values, dtype=np.float64).reshape(len(instances), len(columns))


def _native(folder: Path) -> Callable[[Instances], Scores]:
    try:
        from . import frames, model_format
        from .model import predict
    except ModuleNotFoundError as error:
        raise RegistryError(
            f"{folder} was not exported, so serving it needs {error.name}, which is not "
            "installed: install the project with its train group"
        ) from None
    model = model_format.load(folder)
    return lambda instances: predict(model, frames.to_frame(instances))


def differ(scores: Scores, others: Scores) -> float:
    """Return the greatest difference, relative where the scores are larger than one."""
    if not (np.isfinite(scores).all() and np.isfinite(others).all()):
        return math.inf
    return float(np.max(np.abs(scores - others) / np.maximum(1.0, np.abs(others)), initial=0.0))
