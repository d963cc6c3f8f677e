"""A scikit-learn pipeline as an ONNX graph, by skl2onnx, with histogram gradient boosting exact.

skl2onnx compares in single precision, which moves rows across thresholds, and does not know splits
on categories. The trees below are ONNX's TreeEnsemble in double precision instead
(https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html), sums in the trees' own order.
"""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.base import BaseEstimator, is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from .bundle import CATEGORY_INPUT, MISSING, NUMBER_INPUT, SCORES
from .contract import CATEGORIES, NUMBERS
from .errors import ProjectError
from .graphs import columns, inputs
from .model import Model

LESS_OR_EQUAL, MEMBER = 0, 6  # modes of TreeEnsemble's nodes
OPSET, ML_OPSET, TREE_OPSET, IR_VERSION = 18, 3, 5, 10
BITS = 32  # in one word of a split's set of categories
NODE = (  # where it leads is a number, and 1 if that is a leaf's
    "featureids", "modes", "splits", "truenodeids", "trueleafs", "falsenodeids", "falseleafs",
    "missing_value_tracks_true",
)  # fmt: skip


def convert(model: Model, *, single: bool = False) -> onnx.ModelProto:
    """Return the graph of a fitted pipeline; `export` checks its answers.

    Some operators exist in single precision only: `single` gives the pipeline its numbers so.

    Raises
    ------
    ProjectError
        The boosting has another link than the identity or the logit, or more than two classes.
    Exception
        skl2onnx does not know an estimator in the pipeline.
    """
    model = _told_of_missing(model)
    boosting = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
    number = FloatTensorType if single else DoubleTensorType
    found = convert_sklearn(
        model,
        "pipeline",
        [(name, StringTensorType([None, 1])) for name in CATEGORIES]
        + [(name, number([None, 1])) for name in NUMBERS],
        options={id(model): {"zipmap": False}} if is_classifier(model) else None,
        target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        custom_conversion_functions=dict.fromkeys(boosting, _boosting),
        custom_shape_calculators=dict.fromkeys(boosting, _shapes),
    )
    last = found.graph.output[-1].name
    numbers = "in.single" if single else NUMBER_INPUT
    nodes: list[onnx.NodeProto] = []
    if single and NUMBERS:
        nodes.append(helper.make_node("Cast", [NUMBER_INPUT], [numbers], to=TensorProto.FLOAT))
    parts = ((CATEGORY_INPUT, CATEGORIES), (numbers, NUMBERS))
    nodes += [columns(name, features) for name, features in parts if features]
    nodes += [*found.graph.node, *_score(last, classifier=is_classifier(model))]
    output = helper.make_tensor_value_info(SCORES, TensorProto.DOUBLE, ["rows"])
    graph = helper.make_graph(
        nodes, "served", inputs(), [output], [*found.graph.initializer, *_constants()]
    )
    # TreeEnsemble came with the version that dropped what skl2onnx writes other trees with.
    ours = any(node.op_type == "TreeEnsemble" for node in nodes)
    known = TREE_OPSET if ours else ML_OPSET
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", known)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _told_of_missing(model: Model) -> Model:
    """Return a copy whose encoders know a missing category by the text that stands for it."""
    copy = deepcopy(model)
    for encoder in _encoders(copy):
        encoder.categories_ = [
            np.array([MISSING if each is None else each for each in known], dtype=known.dtype)
            for known in encoder.categories_
        ]
    return copy


def _encoders(part: Any) -> Iterator[Any]:
    """Yield what holds learned categories in a pipeline, however deep."""
    if hasattr(part, "categories_"):
        yield part
    held = vars(part).values() if isinstance(part, BaseEstimator) else part
    for each in held if isinstance(part, BaseEstimator | list | tuple) else ():
        yield from _encoders(each)


# Tried in this order until one answers as the model does.
CONVERSIONS: tuple[Callable[[Model], onnx.ModelProto], ...] = (
    convert,
    partial(convert, single=True),
)


def _constants() -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array(np.array([1], dtype=np.int64), "out.yes"),
        numpy_helper.from_array(np.array([-1], dtype=np.int64), "out.flat"),
    ]


def _score(last: str, *, classifier: bool) -> Iterator[onnx.NodeProto]:
    """Yield what makes one score a row of the last output: the value, or the chance of yes."""
    if classifier:
        yield helper.make_node("Gather", [last, "out.yes"], ["out.column"], axis=1)
        last = "out.column"
    yield helper.make_node("Reshape", [last, "out.flat"], ["out.reshaped"])
    yield helper.make_node("Cast", ["out.reshaped"], [SCORES], to=TensorProto.DOUBLE)


def _shapes(operator: Any) -> None:
    if len(operator.outputs) == 1:
        operator.outputs[0].type = DoubleTensorType([None, 1])
    else:
        operator.outputs[0].type = Int64TensorType([None])
        operator.outputs[1].type = DoubleTensorType([None, 2])


def _boosting(scope: Any, operator: Any, container: Any) -> None:
    """Write histogram gradient boosting: what skl2onnx calls a conversion function."""
    estimator = operator.raw_operator
    link = type(estimator._loss.link).__name__  # noqa: SLF001 - no public name tells it
    if link not in {"IdentityLink", "LogitLink"} or estimator._baseline_prediction.size != 1:  # noqa: SLF001
        raise ProjectError(f"no export of boosting with a {link} or several outputs is known")

    def add(kind: str, words: list[str], result: str | None = None, **attributes: Any) -> str:
        result = result or str(scope.get_unique_variable_name(f"boosting_{kind}"))
        name = scope.get_unique_operator_name(kind)
        container.add_node(kind, words, [result], name=name, **attributes)
        return result

    trees = {"op_domain": "ai.onnx.ml", "op_version": ML_OPSET, **_trees(estimator)}
    features = operator.inputs[0].full_name
    if not isinstance(operator.inputs[0].type, DoubleTensorType):
        features = add("Cast", [features], to=TensorProto.DOUBLE)
    if link == "IdentityLink":
        add("TreeEnsemble", [features], operator.outputs[0].full_name, **trees)
        return
    constants = {}
    for name, value in (("e", math.e), ("one", 1.0)):
        constants[name] = scope.get_unique_variable_name(name)
        container.add_initializer(constants[name], TensorProto.DOUBLE, [], [value])
    # Pow, not Exp: the latter's last bit depends on how many rows are computed together.
    negative = add("Neg", [add("TreeEnsemble", [features], **trees)])
    odds = add("Add", [add("Pow", [constants["e"], negative]), constants["one"]])
    yes = add("Div", [constants["one"], odds])
    both = operator.outputs[1].full_name
    add("Concat", [add("Sub", [constants["one"], yes]), yes], both, axis=1)
    add("ArgMax", [both], operator.outputs[0].full_name, axis=1, keepdims=0)


@dataclass
class _Nodes:
    """TreeEnsemble's attributes, filled node by node: a row has what NODE names."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)
    members: list[float] = field(default_factory=list)

    def attributes(self) -> dict[str, Any]:
        """Return the operator's attributes."""

        def tensor(name: str, values: list[Any], kind: type = np.float64) -> onnx.TensorProto:
            return numpy_helper.from_array(np.array(values, dtype=kind), name)

        of = dict(zip(NODE, map(list, zip(*self.rows, strict=True)), strict=True))
        return {
            **{f"nodes_{name}": values for name, values in of.items()},
            "nodes_modes": tensor("modes", of["modes"], np.uint8),
            "nodes_splits": tensor("splits", of["splits"]),
            "tree_roots": self.roots,
            "leaf_targetids": [0] * len(self.leaves),
            "leaf_weights": tensor("leaves", self.leaves),
            "n_targets": 1,
            "aggregate_function": 1,
            "post_transform": 0,
            **({"membership_values": tensor("members", self.members)} if self.members else {}),
        }


def _trees(estimator: Any) -> dict[str, Any]:
    nodes = _Nodes()
    # The baseline is a tree of one leaf, both ways; the others are added to it in their order.
    nodes.leaves.append(float(estimator._baseline_prediction.item()))  # noqa: SLF001
    nodes.roots.append(0)
    nodes.rows.append((0, LESS_OR_EQUAL, 0.0, 0, 1, 0, 1, 0))
    for (tree,) in estimator._predictors:  # noqa: SLF001
        _tree(estimator, tree, nodes)
    return nodes.attributes()


def _tree(estimator: Any, tree: Any, nodes: _Nodes) -> None:
    rows = tree.nodes
    inner, leaves = np.flatnonzero(rows["is_leaf"] == 0), np.flatnonzero(rows["is_leaf"])
    first, first_leaf = len(nodes.rows), len(nodes.leaves)
    place = {int(row): (first + i, 0) for i, row in enumerate(inner)}
    place |= {int(row): (first_leaf + i, 1) for i, row in enumerate(leaves)}
    nodes.roots.append(first)
    nodes.leaves += rows["value"][leaves].tolist()
    if not len(inner):  # a tree that found nothing to split
        nodes.rows.append((0, LESS_OR_EQUAL, 0.0, *place[0], *place[0], 0))
    for row in rows[inner]:
        left, right = place[int(row["left"])], place[int(row["right"])]
        feature, missing = int(row["feature_idx"]), int(row["missing_go_to_left"])
        if not row["is_categorical"]:
            split = float(row["num_threshold"])
            nodes.rows.append((feature, LESS_OR_EQUAL, split, *left, *right, missing))
            continue
        chosen = _categories(estimator, tree, row, left=not missing)
        # NaN ends a node's set. What is in no set, missing or unknown, takes the other way.
        nodes.members += [*chosen, math.nan]
        yes, no = (right, left) if missing else (left, right)
        nodes.rows.append((feature, MEMBER, 0.0, *yes, *no, 0))


def _categories(estimator: Any, tree: Any, row: Any, *, left: bool) -> list[float]:
    """Return the categories that go left at a split, or those that go right."""
    encoder = estimator._preprocessor.named_transformers_["encoder"]  # noqa: SLF001
    known = [float(c) for c in encoder.categories_[row["feature_idx"]] if not np.isnan(c)]
    words = tree.raw_left_cat_bitsets[row["bitset_idx"]]
    goes_left = [bool(int(words[i // BITS]) >> (i % BITS) & 1) for i in range(len(known))]
    return [category for category, is_left in zip(known, goes_left, strict=True) if is_left == left]
