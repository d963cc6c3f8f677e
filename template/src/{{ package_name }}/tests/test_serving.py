"""The service answers as the model does offline, and refuses what it cannot answer by name."""

import json
import socket
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from .. import model_format
from ..contract import CATEGORIES, FEATURE_NAMES, FEATURES, NUMBERS, example
from ..frames import model_frame
from ..model import predict
from ..settings import PACKAGE
from .conftest import Project

REQUIRED = [column.name for column in FEATURES if not column.nullable]
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
    records = [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in rows[FEATURE_NAMES].to_dict("records")
    ]
    answer = ask(service, *records)
    assert scores(answer) == offline.tolist()
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


def missing(name: str) -> bytes:
    """Return a body with the example lacking a field."""
    return json.dumps({"instances": [{k: v for k, v in example().items() if k != name}]}).encode()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        *((missing(name), name) for name in REQUIRED),
        *((one(**{name: SECRET}), name) for name in NUMBERS),
        *((one(**{name: [SECRET]}), name) for name in FEATURE_NAMES),
        *((one(**{name: 17}), name) for name in CATEGORIES),
        *((one(**{name: float("nan")}), name) for name in FEATURE_NAMES),
        *((one(**{name: float("-inf")}), name) for name in FEATURE_NAMES),
        *((one(**{name: True}), name) for name in NUMBERS),
        *((one(**{name: SECRET * 100}), name) for name in CATEGORIES),
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
