"""The service answers as the model does offline, and refuses what it cannot answer by name."""

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import APIRouter, HTTPException, Request
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from .. import model_format
from ..bundle import TOLERANCE, differ
from ..contract import CATEGORIES, FEATURE_NAMES, FEATURES, NUMBERS, example
from ..frames import model_frame
from ..model import predict
from ..schema import Features
from ..serving import extra, v2
from ..serving.guard import Room
from ..serving.request import INTEGERS, Instance
from ..settings import PACKAGE, Settings
from .conftest import Project, client_of, sent

REQUIRED = [name for name, field in Features.model_fields.items() if field.is_required()]
SECRET = "s3cret-value"  # noqa: S105


def ask(service: TestClient, *instances: dict[str, Any]) -> Any:
    """Send instances and return the answer."""
    answer = service.post("/predict", json={"instances": instances})
    assert answer.status_code == 200, answer.text
    return answer.json()


def scores(answer: dict[str, Any]) -> list[float]:
    """Return the numbers in an answer; where the predictions are decisions, they stand beside."""
    lists = [values for values in answer.values() if isinstance(values, list)]
    found: list[float] = next(values for values in lists if isinstance(values[0], float))
    return found


def test_served_predictions_equal_offline_ones(service: TestClient, trained: Project) -> None:
    rows = trained.pipeline().split("holdout").head(200)
    offline = predict(model_format.load(trained.outputs / "train"), model_frame(rows))
    answer = ask(service, *sent(rows))
    assert differ(np.array(scores(answer)), offline) < TOLERANCE
    assert len(answer["predictions"]) == len(rows)
    version = trained.version()
    assert answer["model"] == {"name": version["name"], "version": version["version"]}


def test_unseen_categories_and_missing_values_get_answers(service: TestClient) -> None:
    unseen = {**example(), **dict.fromkeys(CATEGORIES, "?")}
    required = {name: example()[name] for name in REQUIRED}
    assert np.isfinite(scores(ask(service, unseen, required))).all()


def test_health_readiness_and_version(service: TestClient, trained: Project) -> None:
    assert service.get("/healthz").json() == {"status": "ok"}
    assert service.get("/readyz").json() == {"status": "ready"}
    about, version = service.get("/version").json(), trained.version()
    assert (about["model_name"], about["model_version"]) == (version["name"], version["version"])
    assert (about["model_stage"], about["sha256"]) == ("production", version["sha256"])


def test_routes_of_ones_own_are_answered_beside_ours(project: Project) -> None:
    router = APIRouter()
    router.add_api_route("/contact", lambda: {"team": "planning"})
    project.patch.setattr(extra, "router", router)
    project.promote()
    with client_of(project.settings, project.folder / "service") as client:
        assert client.get("/contact").json() == {"team": "planning"}
        assert "/contact" in client.get("/openapi.json").json()["paths"]


def test_the_documented_example_predicts(service: TestClient) -> None:
    operation = service.get("/openapi.json").json()["paths"]["/predict"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert list(schema["properties"]["instances"]["items"]["properties"]) == FEATURE_NAMES
    assert len(ask(service, *schema["example"]["instances"])["predictions"]) == 1
    assert {"200", "400", "413", "422"} <= set(operation["responses"])
    assert service.get("/", follow_redirects=False).headers["location"] == "/docs"


def one(**changes: object) -> bytes:
    """Return a body with the example changed; NaN and Infinity are written as Python does."""
    return json.dumps({"instances": [{**example(), **changes}]}).encode()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        *((one().replace(b'"%s":' % name.encode(), b'"":'), name) for name in REQUIRED),
        *((one(**{name: SECRET}), name) for name in NUMBERS),
        *((one(**{name: [SECRET]}), name) for name in FEATURE_NAMES),
        *((one(**{name: 17}), name) for name in CATEGORIES),
        *((one(**{name: float("nan")}), name) for name in FEATURE_NAMES),
        *((one(**{name: float("-inf")}), name) for name in FEATURE_NAMES),
        *((one(**{c.name: True}), c.name) for c in FEATURES if c.kind != "boolean"),
        *((one(**{c.name: SECRET + "x" * c.longest}), c.name) for c in FEATURES if c.longest),
        (one(extra=SECRET), "extra"),
        (one(**{f"field{i}": SECRET for i in range(20_000)}), "field0"),
        (one(**{"x" * 500_000: SECRET}), "xxx"),
        (b'{"instances": []}', "instances"),
        (b'{"instances": null}', "instances"),
        (b"{}", "instances"),
        (b'{"instances": [7]}', "instances"),
        (b'{"instances": [{}], "s3cret-value": 1}', "instances"),
        (json.dumps({"instances": [example()] * 1001}).encode(), "instances"),
    ],
)
def test_what_breaks_the_schema_is_refused_by_its_name_alone(
    service: TestClient, body: bytes, field: str
) -> None:
    answer = service.post("/predict", content=body)
    assert answer.status_code == 422
    assert any(str(part).startswith(field) for p in answer.json()["detail"] for part in p["loc"])
    assert all(set(problem) == {"type", "loc", "msg"} for problem in answer.json()["detail"])
    assert len(answer.content) < 10_000
    assert SECRET not in answer.text.replace(f'"{SECRET}"]', "")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"instances", 400),
        (b'{"instances": [\xff\xfe]}', 400),
        (b'{"instances": ["\\ud800"]}', 400),
        (b"[" * 100_000, 400),
        (b'{"instances": ' + b"[" * 100_000, 400),
        (b'{"instances": [' + b"9" * 10_000 + b"]}", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b" " * 2_000_000, 413),
    ],
    ids=["empty", "text", "utf-8", "surrogate", "deep", "deeper", "digits", "list", "str", "large"],
)
def test_what_is_no_request_is_refused(service: TestClient, body: bytes, status: int) -> None:
    assert service.post("/predict", content=body).status_code in {status, 400}


def test_a_number_too_large_for_any_machine_is_refused(service: TestClient) -> None:
    for name in NUMBERS:
        for digits in (400, 5000):
            body = one(**{name: 0}).replace(
                f'"{name}": 0'.encode(), f'"{name}": 1'.encode() + b"0" * digits
            )
            assert service.post("/predict", content=body).status_code in {400, 422}


def test_integers_that_a_model_cannot_tell_apart_are_refused() -> None:
    for name in INTEGERS:
        with pytest.raises(ValidationError, match=r"2\*\*53"):
            Instance.model_validate({**example(), name: 2**53 + 1})


REPEATED = one().replace(b"[{", b'[{"%s": null, ' % FEATURE_NAMES[-1].encode())


@pytest.mark.parametrize("body", [REPEATED, b'{"instances": [], ' + one()[1:]])
def test_a_field_given_twice_is_refused(service: TestClient, body: bytes) -> None:
    assert service.post("/predict", content=body).status_code == 422


def test_a_colon_in_a_text_is_no_field(service: TestClient) -> None:
    assert ask(service, {**example(), **dict.fromkeys(CATEGORIES, ":")})["predictions"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(FEATURE_NAMES), inner)
    ),
    max_leaves=20,
)


known = dict.fromkeys(FEATURE_NAMES, anything)
instances = st.fixed_dictionaries({"unknown": anything}, optional=known)
kinds = st.sampled_from(["FP64", "BYTES"])
tensors = st.fixed_dictionaries(
    {"name": anything, "shape": anything, "datatype": kinds, "data": anything}
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    route=st.sampled_from(["/predict", f"/v2/models/{PACKAGE}/infer"]),
    body=st.binary(max_size=200)
    | (
        anything
        | st.fixed_dictionaries({"instances": st.lists(instances)})
        | st.fixed_dictionaries({"inputs": st.lists(tensors)})
    )
    .map(json.dumps)
    .map(str.encode),
)
def test_malformed_bodies_get_only_4xx(service: TestClient, route: str, body: bytes) -> None:
    assert 400 <= service.post(route, content=body).status_code < 500


def inferred(service: TestClient, *instances: dict[str, Any], **more: Any) -> Any:
    """Ask by the Open Inference Protocol."""
    columns = {name: [instance[name] for instance in instances] for name in FEATURE_NAMES}
    inputs = [
        {"name": name, "datatype": v2.INPUTS[name], "shape": [len(data)], "data": data}
        for name, data in columns.items()
    ]
    return service.post(f"/v2/models/{PACKAGE}/infer", json={"inputs": inputs, **more})


def test_the_inference_protocol_gives_the_same_answers(service: TestClient) -> None:
    instances = [example(), {**example(), **dict.fromkeys(CATEGORIES, "?")}]
    expected = ask(service, *instances)
    answer = inferred(service, *instances, id="7").json()
    assert (answer["id"], answer["model_version"]) == ("7", expected["model"]["version"])
    assert answer["model_name"] == expected["model"]["name"]
    assert {each["name"]: each["data"] for each in answer["outputs"]} == {
        name: values for name, values in expected.items() if isinstance(values, list)
    }
    (wanted,) = inferred(service, example(), outputs=[{"name": "predictions"}]).json()["outputs"]
    assert wanted["shape"] == [1]
    assert "error" in inferred(service, example(), outputs=[{"name": "nothing"}]).json()


def test_the_inference_protocol_describes_the_model(service: TestClient) -> None:
    about = service.get(f"/v2/models/{PACKAGE}").json()
    assert [each["name"] for each in about["inputs"]] == FEATURE_NAMES
    assert service.get("/v2/models/another").status_code == 404
    assert service.get(f"/v2/models/{PACKAGE}/ready").json()["ready"]
    assert service.get("/v2/health/ready").json() == {"ready": True}
    assert service.get("/v2/health/live").json() == {"live": True}
    assert service.get("/v2").json()["name"] == PACKAGE


def test_requests_carry_an_id_in_and_out(service: TestClient) -> None:
    given = service.get("/healthz", headers={"X-Request-ID": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    for odd in ("", "a b", "x" * 65, 'a"b'):
        made = service.get("/healthz", headers={"X-Request-ID": odd}).headers["x-request-id"]
        assert made != odd
        assert len(made) == 16


def test_metrics_name_what_happened(service: TestClient) -> None:
    ask(service, example())
    service.get("/made/up")
    page = service.get("/metrics").text
    for name in (
        'http_requests_total{route="/predict",status="200"}',
        'http_request_seconds_bucket{le="0.1",route="/predict"}',
        'http_requests_total{route="other",status="404"}',
        "inference_batch_size_sum",
        "inference_queue_depth",
        "prediction_score_count",
        f'model_info{{name="{PACKAGE}"',
    ):
        assert name in page


@pytest.mark.usefixtures("service")
def test_with_keys_only_who_has_one_may_predict(trained: Project, tmp_path: Path) -> None:
    chosen = trained.settings.model_copy(update={"api_keys": SecretStr("one, two")})
    with client_of(chosen, tmp_path) as client:
        for headers in ({}, {"X-API-Key": "three"}, {"X-API-Key": "one, two"}):
            assert client.post("/predict", content=one(), headers=headers).status_code == 401
            assert client.get("/readyz", headers=headers).status_code == 200
        for headers in ({"X-API-Key": "one"}, {"Authorization": "Bearer two"}):
            assert client.post("/predict", content=one(), headers=headers).status_code == 200
        assert inferred(client, example()).status_code == 401


def test_beyond_capacity_it_says_when_to_come_back() -> None:
    room = Room(Settings(_env_file=None, max_waiting=2))
    request = Request({"type": "http", "headers": [(b"content-length", b"1000000")]})
    _, size = room.enter(request), room.enter(request)
    with pytest.raises(HTTPException) as refused:
        room.enter(request)
    assert refused.value.status_code == 503
    assert (refused.value.headers or {})["retry-after"] == "1"
    room.leave(size)
    assert room.enter(request) == size


def test_without_a_production_model_it_says_so_and_does_not_start(project: Project) -> None:
    with project.python("-m", f"{PACKAGE}.serving", MODEL_STAGE="nobody") as child:
        printed, errors = child.communicate(timeout=180)
    assert (child.returncode, printed) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    assert "has no nobody version" in line


@pytest.mark.usefixtures("service")
def test_a_terminated_server_ends_cleanly(trained: Project) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with trained.python("-m", f"{PACKAGE}.serving", PORT=port) as child:
        assert child.stderr is not None
        assert any("Uvicorn running" in line for line in child.stderr)
        child.terminate()
        child.terminate()
        _, errors = child.communicate(timeout=180)
    assert child.returncode == 0
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
