"""What the graphs of all models share: their inputs, and how those become columns."""

import onnx
from onnx import TensorProto, helper

from .bundle import CATEGORY_INPUT, NUMBER_INPUT
from .contract import CATEGORIES, NUMBERS


def inputs() -> list[onnx.ValueInfoProto]:
    """Return the inputs of every exported graph."""
    found = [(CATEGORY_INPUT, TensorProto.STRING, CATEGORIES)] if CATEGORIES else []
    found += [(NUMBER_INPUT, TensorProto.DOUBLE, NUMBERS)] if NUMBERS else []
    return [
        helper.make_tensor_value_info(name, kind, ["rows", len(columns)])
        for name, kind, columns in found
    ]


def columns(name: str, features: list[str]) -> onnx.NodeProto:
    """Return the node that divides an input into one column per feature, of the feature's name."""
    return helper.make_node("Split", [name], features, axis=1, num_outputs=len(features))
