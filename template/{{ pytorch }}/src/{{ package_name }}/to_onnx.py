"""A PyTorch model as an ONNX graph: the encoder as nodes, the network as PyTorch exports it."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper
from torch import Tensor, nn

from . import objective
from .bundle import CATEGORY_INPUT, MISSING, NUMBER_INPUT, SCORES
from .contract import CATEGORIES, NUMBERS
from .graphs import columns, inputs
from .model import Encoder, Model

OPSET, IR_VERSION = 18, 10
PREFIX = "network."


class Served(nn.Module):
    """The network from encoded inputs to the answer, as `predict` computes it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        # Tensors, because the exporter writes plain numbers in single precision.
        self.scale = torch.tensor(model.encoder.target_scale, dtype=torch.float64)
        self.centre = torch.tensor(model.encoder.target_centre, dtype=torch.float64)

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        """Return the answers, shape (rows,): computed in double, rounded to single precision."""
        answer = objective.answer(self.model(categories, numbers))
        return (answer * self.scale + self.centre).float().double()


def convert(model: Model) -> onnx.ModelProto:
    """Return the graph of a trained model; `export` checks its answers.

    Raises
    ------
    Exception
        PyTorch cannot trace the network.
    """
    network = compose.add_prefix(_network(model), PREFIX)
    nodes = [*_codes(model.encoder), *_numbers(model.encoder), *network.graph.node]
    nodes.append(helper.make_node("Identity", [PREFIX + SCORES], [SCORES]))
    output = helper.make_tensor_value_info(SCORES, TensorProto.DOUBLE, ["rows"])
    constants = [*_constants(model.encoder), *network.graph.initializer]
    graph = helper.make_graph(nodes, "served", inputs(), [output], constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


CONVERSIONS = (convert,)


def _codes(encoder: Encoder) -> Iterator[onnx.NodeProto]:
    """Yield what `Encoder.categories` does: each category's place in its vocabulary, else 0."""
    if not CATEGORIES:
        return
    yield columns(CATEGORY_INPUT, CATEGORIES)
    for name, vocabulary in encoder.vocabularies.items():
        yield helper.make_node(
            "LabelEncoder",
            [name],
            [f"code.{name}"],
            domain="ai.onnx.ml",
            keys_strings=[*vocabulary, MISSING],
            values_int64s=[*range(1, len(vocabulary) + 1), 0],
            default_int64=0,
        )
    codes = [f"code.{name}" for name in encoder.vocabularies]
    yield helper.make_node("Concat", codes, [PREFIX + "categories"], axis=1)


def _numbers(encoder: Encoder) -> Iterator[onnx.NodeProto]:
    """Yield what `Encoder.numbers` does: standardised numbers, then an indicator for each gap."""
    if not NUMBERS:
        return
    parts = ["encoder.scaled.known"]
    yield helper.make_node("Sub", [NUMBER_INPUT, "encoder.means"], ["encoder.centred"])
    yield helper.make_node("Div", ["encoder.centred", "encoder.scales"], ["encoder.scaled"])
    yield helper.make_node("IsNaN", ["encoder.scaled"], ["encoder.scaled.missing"])
    yield helper.make_node(
        "Where", ["encoder.scaled.missing", "encoder.zero", "encoder.scaled"], parts
    )
    if encoder.gaps:
        yield helper.make_node(
            "Gather", [NUMBER_INPUT, "encoder.gap_places"], ["encoder.gaps"], axis=1
        )
        yield helper.make_node("IsNaN", ["encoder.gaps"], ["encoder.gaps.missing"])
        yield helper.make_node(
            "Cast", ["encoder.gaps.missing"], ["encoder.indicators"], to=TensorProto.DOUBLE
        )
        parts = [*parts, "encoder.indicators"]
    yield helper.make_node("Concat", parts, [PREFIX + "numbers"], axis=1)


def _constants(encoder: Encoder) -> list[onnx.TensorProto]:
    places = [NUMBERS.index(name) for name in encoder.gaps]
    arrays: dict[str, NDArray[Any]] = {
        "encoder.means": np.array([*encoder.means.values()], dtype=np.float64),
        "encoder.scales": np.array([*encoder.scales.values()], dtype=np.float64),
        "encoder.gap_places": np.array(places, dtype=np.int64),
        "encoder.zero": np.array(0.0),
    }
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def _network(model: Model) -> onnx.ModelProto:
    """Export the network; two rows stand for any number of them."""
    encoder = model.encoder
    codes = torch.zeros((2, len(encoder.vocabularies)), dtype=torch.int64)
    numbers = torch.zeros((2, len(encoder.means) + len(encoder.gaps)), dtype=torch.float64)
    rows = {0: torch.export.Dim("rows")}
    said = io.StringIO()  # the exporter prints, warns and logs about what it does not need
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.onnx.export(
                Served(model).eval(),
                (codes, numbers),
                input_names=["categories", "numbers"],
                output_names=[SCORES],
                dynamic_shapes={"categories": rows, "numbers": rows},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    if exported is None:
        raise TypeError("PyTorch exported nothing")
    found: onnx.ModelProto = exported.model_proto
    return found
