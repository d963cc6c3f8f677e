"""What is served answers as the trained model does, and can do nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from pydantic import BaseModel, Field

from .. import bundle, export, frames, graphs, model_format, registry, to_onnx
from ..contract import CATEGORIES, FEATURES, NUMBERS, columns, example
from ..errors import RegistryError
from ..frames import model_frame, to_frame, to_instances
from ..model import Model, predict
from .conftest import Project, values

Convert = Callable[[Model], onnx.ModelProto]
Sample = tuple[Model, pd.DataFrame]


@pytest.fixture(scope="module")
def sample(trained_folder: Path) -> Sample:
    """The trained model, and the rows it is judged on."""
    outputs = trained_folder / "artifacts"
    rows = pd.read_parquet(outputs / "preprocess" / "holdout.parquet")
    return model_format.load(outputs / "train"), rows


@pytest.fixture(scope="module")
def scorer(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> bundle.Scorer:
    """The exported model; one that is served natively has none to test."""
    target: Path = tmp_path_factory.mktemp("exported")
    description = export.export(*sample, target)
    if description.runtime == "native":
        pytest.skip(description.note)
    assert description == bundle.describe("onnx")
    return bundle.load(target)


def test_exported_answers_equal_the_models(scorer: bundle.Scorer, sample: Sample) -> None:
    model, rows = sample
    known = model_frame(rows)
    instance = st.fixed_dictionaries(
        {c.name: st.sampled_from(known[c.name].tolist()) | values(c) for c in FEATURES}
    )

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(instance, min_size=20, max_size=60))
    def compare(instances: list[dict[str, Any]]) -> None:
        scores = scorer(instances)
        assert bundle.differ(scores, predict(model, to_frame(instances))) <= bundle.TOLERANCE

    compare()


def test_an_answer_is_the_same_alone_and_in_any_company(
    scorer: bundle.Scorer, sample: Sample
) -> None:
    instances = to_instances(model_frame(sample[1]))[:300]
    together = scorer(instances)
    for size in (1, 7):
        parts = [scorer(instances[at : at + size]) for at in range(0, len(instances), size)]
        assert bundle.differ(np.concatenate(parts), together) <= bundle.TOLERANCE


def test_missing_and_unseen_values_are_answered(scorer: bundle.Scorer) -> None:
    gaps = {**example(), **{c.name: None for c in FEATURES if c.nullable}}
    unseen = {**gaps, **dict.fromkeys(CATEGORIES, "never seen")}
    absent = {name: value for name, value in gaps.items() if value is not None}
    assert np.isfinite(scorer([gaps, unseen, absent])).all()
    assert scorer([]).shape == (0,)


def fails(_model: Model) -> onnx.ModelProto:
    raise TypeError("no such operator\nand more")


def alike(_model: Model | None = None) -> onnx.ModelProto:
    """Return a graph that answers everything alike, whatever the features are."""
    first, *_ = inputs = graphs.inputs()
    always = helper.make_tensor("always", TensorProto.DOUBLE, [1], [1e9])
    nodes = [
        helper.make_node("Shape", [first.name], ["rows"], start=0, end=1),
        helper.make_node("ConstantOfShape", ["rows"], [bundle.SCORES], value=always),
    ]
    scores = helper.make_tensor_value_info(bundle.SCORES, TensorProto.DOUBLE, ["rows"])
    graph = helper.make_graph(nodes, "alike", inputs, [scores])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("converter", "reason"), [(fails, "no such operator"), (alike, "its answers differ by")]
)
def test_what_cannot_be_exported_is_served_natively_and_says_why(
    converter: Convert, reason: str, sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = sample
    monkeypatch.setattr(to_onnx, "CONVERSIONS", (converter,))
    description = export.export(model, rows, tmp_path)
    assert description.runtime == "native"
    assert reason in description.note
    assert "\n" not in description.note
    assert not (tmp_path / bundle.GRAPH).exists()
    loaded, frame = bundle.load(tmp_path), model_frame(rows)
    assert loaded.description == description
    assert loaded(to_instances(frame)).tolist() == predict(model, frame).tolist()


def written(folder: Path, **changes: object) -> Path:
    """Write a bundle of this project's features, or with a changed description."""
    described = {**bundle.describe("onnx").model_dump(), **changes}
    (folder / bundle.DESCRIPTION).write_text(json.dumps(described))
    (folder / bundle.GRAPH).write_bytes(alike().SerializeToString())
    return folder


def test_a_bundle_of_other_features_is_read_only_to_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path)
    before = bundle.load(folder)([example()]).tolist()
    monkeypatch.setattr(bundle, "NUMBERS", [*NUMBERS, "new"])
    with pytest.raises(RegistryError, match="made for other features"):
        bundle.load(folder)
    compared = bundle.load(folder, own_features=True)
    assert compared([{**example(), "new": 1}]).tolist() == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "no bundle that this service reads"),
        ({"runtime": "pickle"}, "no bundle that this service reads"),
        ({"code": "print()"}, "no bundle that this service reads"),
        ({"numbers": ["other"]}, "made for other features"),
    ],
    ids=str,
)
def test_a_bundle_that_this_code_does_not_know_is_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(RegistryError, match=said):
        bundle.load(written(tmp_path, **changes))


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x80\x05cposix\nsystem\n."])
def test_a_damaged_or_planted_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    target = written(tmp_path)
    (target / bundle.GRAPH).write_bytes(content)
    with pytest.raises(RegistryError, match="is not a graph that can be run"):
        bundle.load(target)
    (target / bundle.GRAPH).write_bytes(alike().SerializeToString()[:-100])
    with pytest.raises(RegistryError):
        bundle.load(target)


def reader(place: str, outside: TensorProto) -> list[onnx.NodeProto]:
    """Return nodes that make `secret` of a tensor that is kept in another file."""
    if place == "constant":
        return [helper.make_node("Constant", [], ["secret"], value=outside)]
    always = helper.make_tensor("always", TensorProto.BOOL, [], [True])
    result = helper.make_tensor_value_info("inner", TensorProto.DOUBLE, [1])
    inside = helper.make_node("Identity", ["outside"], ["inner"])
    branch = helper.make_graph([inside], "branch", [], [result], [outside])
    return [
        helper.make_node("Constant", [], ["always"], value=always),
        helper.make_node("If", ["always"], ["secret"], then_branch=branch, else_branch=branch),
    ]


@pytest.mark.parametrize("place", ["constant", "branch"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_graph_cannot_read_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, *, absolute: bool
) -> None:
    """A graph may keep its numbers in a file that it names; here that would be anybody's."""
    target = written(tmp_path)
    (tmp_path / "file").write_bytes(np.float64(7).tobytes())
    monkeypatch.chdir(tmp_path)
    graph = alike()
    outside = TensorProto(name="outside", data_type=TensorProto.DOUBLE, dims=[1])
    outside.data_location = TensorProto.EXTERNAL
    named = str(tmp_path / "file") if absolute else "file"
    outside.external_data.add(key="location", value=named)
    graph.graph.node[-1].output[0] = "almost"
    graph.graph.node.extend(reader(place, outside))
    graph.graph.node.append(helper.make_node("Add", ["almost", "secret"], [bundle.SCORES]))
    (target / bundle.GRAPH).write_bytes(graph.SerializeToString())
    with pytest.raises(RegistryError, match="is not a graph that can be run"):
        bundle.load(target)


def test_a_graph_with_other_inputs_is_refused(tmp_path: Path) -> None:
    target = written(tmp_path)
    one = helper.make_tensor_value_info("x", TensorProto.DOUBLE, [1])
    two = helper.make_tensor_value_info("y", TensorProto.DOUBLE, [1])
    same = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [one], [two])
    graph = helper.make_model(same, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (target / bundle.GRAPH).write_bytes(graph.SerializeToString())
    with pytest.raises(RegistryError, match="not what this code sends"):
        bundle.load(target)


def test_the_registered_version_carries_its_bundle(trained: Project, scorer: bundle.Scorer) -> None:
    version = trained.client.get_model_version(
        trained.version()["name"], trained.version()["version"]
    )
    assert version.tags[registry.RUNTIME_TAG] == scorer.description.runtime
    assert len(version.tags[registry.BUNDLE_DIGEST_TAG]) == 64


def test_numbers_are_tried_at_the_ends_that_the_schema_sets() -> None:
    class Person(BaseModel):
        age: int = Field(gt=17, le=120)
        paid: float = Field(gt=0)
        member: bool

    ends = [export.ends(column) for column in columns(Person)]
    assert ends == [(18, 120), (export.NEAR, export.FAR), (0, 1)]


def test_a_table_is_scored_in_parts(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "ROWS_AT_ONCE", 3)
    frame = model_frame(sample[1].head(7))
    sizes = frames.scored(lambda part: np.full(len(part), float(len(part))), frame)
    assert sizes.tolist() == [3, 3, 3, 3, 3, 3, 1]
