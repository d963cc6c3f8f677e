"""Each framework with each task: installed, linted, trained, promoted, served, and asked.

The tests of one project run in the order they are written, each on what the one before left.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import Render, git, project_environment
from google_cloud import Google, answering, variables
from matrix import EXECUTED, Answers, label
from moto.server import ThreadedMotoServer
from registries import free_port
from steps import run_job

INSIDE = Path(__file__).parent / "inside"
BIN = Path(sys.executable).parent
OFFLINE = INSIDE / "offline.py"
PACKAGE = "flight_delays"
LOG = "predictions"
START_SECONDS = 180
STOP_SECONDS = 30
SERVING_BYTES = 180e6  # without the bytecode
SERVING_PACKAGES = 28
NOT_SERVED = {"mlflow", "mlflow_skinny", "onnx", "pandas", "pyarrow", "scikit_learn", "torch"}
NAMES = ("vars.MLFLOW_EXPERIMENT_NAME", "vars.MODEL_NAME")
SHOP = INSIDE / "shop"
STAGES = ("ingest", "preprocess", "train", "evaluate", "register")
FLIGHT = {
    "carrier": "UA", "origin": "EWR", "dest": "SFO", "weekday": 5, "departure_minute": 1065,
    "arrival_minute": 1255, "distance": 2565, "aircraft_year": 2001, "seats": 178,
}  # fmt: skip
INSTANCES: list[dict[str, Any]] = [
    FLIGHT,
    {**FLIGHT, "carrier": "??", "dest": "XYZ"},  # never seen in training
    {**FLIGHT, "aircraft_year": None, "seats": None},
    {name: value for name, value in FLIGHT.items() if name not in {"aircraft_year", "seats"}},
    *(
        {**FLIGHT, "departure_minute": 15 * n, "distance": 200 + 25 * n, "weekday": n % 7 + 1}
        for n in range(95)
    ),
]

pytestmark = pytest.mark.executed


@dataclass
class Executed:
    """A rendered project that is a repository of its own, and the environment of its commands."""

    path: Path
    answers: Answers
    variables: dict[str, str]

    def run(self, *words: str, given: str | None = None) -> str:
        """Run a command in the project and return what it printed; fail with it if it fails."""
        done = subprocess.run(
            words, cwd=self.path, env=self.variables, input=given or "", capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, *words: str, given: str | None = None) -> str:
        return self.run("uv", "run", "--no-sync", "python", *words, given=given)

    def status(self) -> dict[str, Any]:
        told = self.python("-m", f"{PACKAGE}.promote_model", "status", "--json")
        found: dict[str, Any] = json.loads(told)
        return found


def ask(address: str, body: object = None) -> Any:
    """Get a page, or post JSON to it, and return what its JSON means."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310  (a server we started)
        address, data, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as page:  # noqa: S310
        return json.load(page)


@dataclass
class Service:
    """A running `make serve`."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def get(self, path: str, body: object = None) -> Any:
        return ask(self.address + path, body)

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("/readyz")
            except OSError:
                time.sleep(0.2)
            else:
                return
        pytest.fail(f"the service is not ready:\n{self.log.read_text()}")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(answers, id=label(answers), marks=pytest.mark.xdist_group(label(answers)))
        for answers in EXECUTED
    ],
)
def installed(
    request: pytest.FixtureRequest,
    render: Render,
    tmp_path_factory: pytest.TempPathFactory,
    mypy_cache: Path,
) -> Iterator[Executed]:
    """Render, commit, `make install`; commit the lock as a user would."""
    answers: Answers = request.param
    folder = tmp_path_factory.mktemp("executed")
    path = Path(shutil.copytree(render(**answers), folder / "project"))
    git(path, "init", "--quiet", "--initial-branch=main")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message", "As rendered")
    variables = {**project_environment(path, folder), "MYPY_CACHE_DIR": str(mypy_cache)}
    project = Executed(path, answers, variables)
    project.run("make", "install")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message", "Lock")
    yield project
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def trained(installed: Executed) -> tuple[Executed, str]:
    """Run `make run` once; return the project and what it printed."""
    return installed, installed.run("make", "run")


@pytest.fixture(scope="module")
def promoted(trained: tuple[Executed, str]) -> Executed:
    """Run `make promote`."""
    project, _ = trained
    project.run("make", "promote")
    return project


@contextmanager
def running(project: Executed, words: list[str], log: Path, **variables: str) -> Iterator[Service]:
    """Run a command that serves, on a free port."""
    port = free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            words, cwd=project.path, env={**project.variables, **variables, "PORT": str(port)},
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    service = Service(process, f"http://127.0.0.1:{port}", log)
    try:
        service.wait()
        yield service
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def service(promoted: Executed) -> Iterator[Service]:
    """Run `make serve` until the last test of the project is done."""
    log = promoted.path.parent / "serve.log"
    with running(promoted, ["make", "serve"], log, PREDICTION_LOG=LOG) as started:
        yield started


def as_exported(offline: list[float]) -> Any:
    """Return what answers equal, within the tolerance that registration held the export to."""
    return pytest.approx(offline, rel=1e-5, abs=1e-5)


def test_project_lints(installed: Executed) -> None:
    installed.run("make", "lint")


def test_formatting_and_locking_change_nothing(installed: Executed) -> None:
    installed.run("make", "format")
    assert git(installed.path, "status", "--porcelain") == ""


def test_first_run_executes_every_stage(trained: tuple[Executed, str]) -> None:
    project, printed = trained
    assert all(stage in printed for stage in STAGES)
    assert "unchanged" not in printed
    assert f"Registered {PACKAGE} version 1" in printed
    assert list((project.path / "artifacts/evaluate").glob("*.png"))
    assert git(project.path, "status", "--porcelain") == ""


def test_second_run_executes_no_stage(trained: tuple[Executed, str]) -> None:
    project, _ = trained
    printed = project.run("make", "run").splitlines()
    lines = {line.split()[0]: line for line in printed if line.strip().startswith(STAGES)}
    assert set(lines) == set(STAGES)
    assert all(line.endswith("unchanged") for line in lines.values())


def test_promotion_moves_the_version_to_production(promoted: Executed) -> None:
    assert promoted.status()["stages"] == {"staging": "1", "production": "1"}


def test_service_says_which_version_answers(promoted: Executed, service: Service) -> None:
    (version,) = promoted.status()["versions"]
    about = service.get("/version")
    assert (about["model_name"], about["model_version"]) == (PACKAGE, version["version"])
    assert (about["model_stage"], about["sha256"]) == ("production", version["sha256"])


def test_served_predictions_equal_the_offline_ones(promoted: Executed, service: Service) -> None:
    offline = json.loads(promoted.python(str(OFFLINE), PACKAGE, given=json.dumps(INSTANCES)))
    answer = service.get("/predict", {"instances": INSTANCES})
    assert answer["model"] == {"name": PACKAGE, "version": "1"}
    assert len(answer["predictions"]) == len(INSTANCES)
    assert answer.get("probabilities", answer["predictions"]) == as_exported(offline)
    assert len(set(offline)) > len(INSTANCES) / 4


def test_documented_example_is_answered(service: Service) -> None:
    operation = service.get("/openapi.json")["paths"]["/predict"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]["example"]
    assert len(service.get("/predict", body)["predictions"]) == 1


def monitored(project: Executed, *words: str) -> tuple[int, dict[str, Any]]:
    """Run monitor_model over what the service logged; return its exit code and its report."""
    done = subprocess.run(
        ["uv", "run", "--no-sync", "monitor_model", "--json", *words],
        cwd=project.path, env={"PREDICTION_LOG": LOG, **project.variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in {0, 10, 11}, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, report


def served(service: Service, rows: list[dict[str, Any]]) -> str:
    """Ask for predictions of rows; return the moment before."""
    before = datetime.now(UTC).isoformat()
    for start in range(0, len(rows), 1000):
        service.get("/predict", {"instances": rows[start : start + 1000]})
    return before


@pytest.fixture(scope="module")
def learned(trained: tuple[Executed, str]) -> list[dict[str, Any]]:
    """Return the features of the training rows, as a client would send them."""
    project, _ = trained
    told = project.python(str(INSIDE / "training_rows.py"), PACKAGE)
    rows: list[dict[str, Any]] = json.loads(told)
    return rows


def test_monitoring_does_not_judge_a_handful_of_predictions(
    promoted: Executed, service: Service
) -> None:
    before = served(service, INSTANCES)
    code, report = monitored(promoted, "--since", before)
    assert (code, report["verdict"]) == (11, "insufficient")
    assert report["log"]["rows"] == len(INSTANCES)
    assert report["log"]["excluded"].keys() <= {"outside_window"}


def test_monitoring_is_quiet_about_rows_like_those_learned_from(
    promoted: Executed, service: Service, learned: list[dict[str, Any]]
) -> None:
    before = served(service, learned)
    code, report = monitored(promoted, "--since", before)
    assert (code, report["verdict"]) == (0, "none"), report["reasons"]
    assert report["log"]["rows"] == len(learned)
    since = f"--since {before}"
    said = promoted.run("make", "monitor", f"ARGS=--log {LOG} {since}")
    assert "nothing has changed that matters" in said


Stored = tuple[str, str]  # where the log is, and the labels


@contextmanager
def stored_by_google(lines: list[bytes], labels: bytes, day: datetime) -> Iterator[Stored]:
    """Store lines as a sink of Cloud Logging does: in entries that have taken their time."""
    entries = map(json.loads, lines)
    wrapped = [{"insertId": "1", "timestamp": e.pop("time"), "jsonPayload": e} for e in entries]
    google = Google("")
    name = f"run.googleapis.com/stdout/{day:%Y/%m/%d}/10:00:00_10:59:59_S0.json"
    google.objects[name] = b"".join(json.dumps(entry).encode() + b"\n" for entry in wrapped)
    google.objects["labels.csv"] = labels
    with answering(google) as port:
        options = f"?scheme=http&endpoint_override=127.0.0.1:{port}"
        yield f"gs://anonymous@bucket{options}", f"gs://anonymous@bucket/labels.csv{options}"


@contextmanager
def stored_by_amazon(lines: list[bytes], labels: bytes, day: datetime) -> Iterator[Stored]:
    """Store lines as Firehose does that extracts messages: one after the other."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    bucket = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **KEYS
    )
    bucket.create_bucket(Bucket="bucket")
    name = f"predictions/{day:%Y-%m-%d}/app-predictions-1.jsonl"
    bucket.put_object(Bucket="bucket", Key=name, Body=b"".join(lines))
    bucket.put_object(Bucket="bucket", Key="labels/labels.csv", Body=labels)
    try:
        options = f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        yield f"s3://bucket/predictions{options}", f"s3://bucket/labels/labels.csv{options}"
    finally:
        server.stop()


STORED = {"cloud-run": stored_by_google, "ecs": stored_by_amazon}
KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}


def test_monitoring_reads_the_bucket_that_the_cloud_fills(
    promoted: Executed, service: Service, learned: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if promoted.answers["cloud"] not in STORED:
        pytest.skip("no cloud fills a bucket")
    for name, value in KEYS.items():
        monkeypatch.setitem(promoted.variables, name.upper(), value)
    day = datetime.now(UTC)
    before = served(service, learned)
    logs = sorted((promoted.path / LOG).glob("*.jsonl"))
    lines = [line for log in logs for line in log.read_bytes().splitlines()]
    target = "late" if promoted.answers["task"] == "classification" else "arrival_delay"
    entries = [json.loads(line) for line in lines]
    known = [f"{entry['request_id']},{entry['row']},{n % 2}" for n, entry in enumerate(entries)]
    labels = "\n".join([f"request_id,row,{target}", *known]).encode()
    with STORED[promoted.answers["cloud"]](lines, labels, day) as (place, labels_place):
        code, report = monitored(promoted, "--since", before, "--log", place)
        monkeypatch.setitem(promoted.variables, "PREDICTION_LABELS", labels_place)
        _, later = monitored(promoted, "--since", "2001-01-01", "--log", place)
    assert (code, report["verdict"]) == (0, "none"), report["reasons"]
    assert report["log"]["rows"] == len(learned)
    assert report["log"]["excluded"].keys() <= {"outside_window"}
    assert later["log"]["rows"] == later["performance"]["labelled"] == len(lines)


def test_monitoring_alarms_when_what_is_served_has_shifted(
    promoted: Executed, service: Service, learned: list[dict[str, Any]]
) -> None:
    rows = [
        {
            **row,
            "distance": 1.2 * row["distance"] // 1,
            "carrier": "ZZ" if n % 10 == 0 else row["carrier"],
        }
        for n, row in enumerate(learned)
    ]
    before = served(service, rows)
    code, report = monitored(promoted, "--since", before)
    assert (code, report["verdict"]) == (10, "alarm")
    alarms = {column["name"]: column for column in report["features"] if column["alarm"]}
    assert set(alarms) == {"distance", "carrier"}
    assert alarms["carrier"]["new"] == {"ZZ": len(rows[::10])}
    page = next((promoted.path / "artifacts" / "monitoring").glob("*/report.html")).read_text()
    assert "ZZ" in page
    assert len(page) < 500_000


def test_monitor_workflow_asks_for_a_look_at_broken_data(promoted: Executed) -> None:
    """Every step of monitor.yml, on last week's log, with GitHub played by a server of ours."""
    _only_once(promoted)
    log = promoted.path / "last-week"
    log.mkdir()
    at = (datetime.now(UTC) - timedelta(days=2)).isoformat(timespec="milliseconds")
    for path in (promoted.path / LOG).glob("*.jsonl"):
        entries = [json.loads(line) for line in path.read_text().splitlines() if line]
        lines = [json.dumps({**entry, "time": at}) for entry in entries]
        (log / f"{path.stem[11:]}.jsonl").write_text("\n".join([*lines, *["broken"] * 900]))
    uri = f"sqlite:///{promoted.path / 'mlflow.db'}"
    with github() as (address, asked):
        variables = {**promoted.variables, "GITHUB_API_URL": address, "GITHUB_REPOSITORY": "o/r"}
        ran = run_job(
            promoted.path / ".github/workflows/monitor.yml", "monitor", promoted.path, variables,
            {
                "vars.MLFLOW_TRACKING_URI": uri, "vars.PREDICTION_LOG": str(log),
                "vars.MONITOR_REQUESTS": "true", "inputs.last || '7d'": "7d",
                "secrets.MLFLOW_TRACKING_USERNAME": "", "secrets.MLFLOW_TRACKING_PASSWORD": "",
                **dict.fromkeys(NAMES, ""), "vars.PREDICTION_LABELS": "",
                "vars.MONITOR_DELAY_DAYS": "1", "github.token": "secret-token",
            },
        )  # fmt: skip
    assert [name for name, code in ran.codes.items() if code] == [
        "Fail on an alarm, so that somebody is told"
    ], ran.said
    assert ran.outputs["code"] == "10"
    assert "of the log's lines are not usable" in ran.summary
    ((asked_at, told),) = asked
    assert asked_at == "/repos/o/r/issues"
    assert told["title"].startswith("Broken data: flight_delays version 1")
    assert (promoted.path / "report" / "report.html").is_file()
    assert "secret-token" not in ran.said


LATER = """
import pathlib, sys
import pandas as pd
path = pathlib.Path(sys.argv[1], "data/sample/flights.parquet")
rows = pd.read_parquet(path)
newest = rows[pd.to_datetime(rows["date"]) > "2013-12-03"]
newest = newest.assign(date=(pd.to_datetime(newest["date"]) + pd.Timedelta(days=28)).dt.date)
pd.concat([rows, newest], ignore_index=True).to_parquet(path, index=False)
configuration = pathlib.Path(sys.argv[1], "configs/data.yaml")
text = configuration.read_text().replace("2013-06-30", "-184").replace("2013-08-31", "-122")
configuration.write_text(text)
"""


def test_retrain_workflow_trains_and_stages_and_leaves_production_alone(
    promoted: Executed, tmp_path: Path
) -> None:
    _only_once(promoted)
    clone = tmp_path / "clone"
    git(promoted.path, "clone", "--quiet", ".", str(clone))
    promoted.python("-c", LATER, str(clone))
    uri = f"sqlite:///{promoted.path / 'mlflow.db'}"
    runner = {**promoted.variables, "CI": "true"}
    ran = run_job(
        clone / ".github/workflows/retrain.yml", "retrain", clone, runner,
        {
            "vars.MLFLOW_TRACKING_URI": uri, "secrets.MLFLOW_TRACKING_USERNAME": "",
            "secrets.MLFLOW_TRACKING_PASSWORD": "", **dict.fromkeys(NAMES, ""),
            "github.event.client_payload.report || inputs.reason": "https://example.com/report",
        },
    )  # fmt: skip
    assert set(ran.codes.values()) == {0}, ran.said
    assert "Version 2 is in staging, was 1" in ran.summary
    assert promoted.status()["stages"] == {"staging": "2", "production": "1"}
    evidence = json.loads((clone / "artifacts/promotion/2/evidence.json").read_text())
    judged = evidence["holdout"]
    assert (judged["first_day"], judged["last_day"]) == ("2013-09-29", "2014-01-28")
    assert judged["sha256"] != evidence["frozen_holdout"]
    assert set(evidence["champion_metrics"]) == set(evidence["metrics"])
    without = run_job(
        clone / ".github/workflows/retrain.yml", "retrain", clone, runner,
        {
            "vars.MLFLOW_TRACKING_URI": "", "secrets.MLFLOW_TRACKING_USERNAME": "",
            "secrets.MLFLOW_TRACKING_PASSWORD": "", **dict.fromkeys(NAMES, ""),
        },
    )  # fmt: skip
    assert without.codes == {"Require a shared registry": 1}


ONCE = (
    "comparison", "drift", "prediction_log", "profile", "raw_data", "retraining", "stages",
)  # fmt: skip


@pytest.mark.parametrize("names", [ONCE, ("exactness",), ("to_onnx",)], ids="-".join)
def test_more_tests_than_a_project_is_given_pass(promoted: Executed, names: Sequence[str]) -> None:
    """They need the project's fixtures, and test what its users have no reason to change."""
    if names == ONCE:
        _only_once(promoted)
    if names == ("to_onnx",) and promoted.answers["framework"] != "sklearn":
        pytest.skip("it has no exporter of trees")
    folder = promoted.path / "src" / PACKAGE / "tests"
    paths = [folder / f"test_more_{name}.py" for name in names]
    for name, path in zip(names, paths, strict=True):
        shutil.copy2(INSIDE / f"{name}.py", path)
    try:
        said = promoted.run("uv", "run", "--no-sync", "pytest", "-q", *map(str, paths))
    finally:
        for path in paths:
            path.unlink()
    assert " passed" in said


def test_another_schema_with_other_data_and_another_model_passes(
    installed: Executed, tmp_path: Path
) -> None:
    """What a project tests beside its owner's files holds whatever these become.

    Another checkout in the same environment, without the tests that read none of them.
    """
    _only_once(installed)
    path = tmp_path / "shop"
    git(installed.path, "clone", "--quiet", ".", str(path))
    shutil.copytree(SHOP / "package", path / "src" / PACKAGE, dirs_exist_ok=True)
    shutil.copytree(SHOP / "configs", path / "configs", dirs_exist_ok=True)
    (path / "src" / PACKAGE / "tests/test_model.py").unlink()
    shop = Executed(path, {}, {**installed.variables, "PYTHONPATH": str(path / "src")})
    python = str(installed.path / ".venv/bin/python")
    (path / "data/orders.csv").write_text(shop.run(python, str(SHOP / "orders.py")))
    shop.run(python, "pipelines/run_pipeline.py")
    shop.run(python, "-m", f"{PACKAGE}.promote_model", "promote")
    tests = f"src/{PACKAGE}/tests"  # in another order: with a service from the first test on
    order = [f"{tests}/test_serving.py", tests, "-k", "not test_lifecycle.py"]
    native = shop.run(python, "-m", "pytest", "-q", *order)
    assert " passed, 4 skipped" in native  # what is said of the export of a model that has none
    (path / "configs/model.yaml").write_text("strength: 1.0\n")
    exported = shop.run(python, "-m", "pytest", "-q", "-k", "test_export.py")
    assert " passed" in exported
    assert "skipped" not in exported


def _only_once(project: Executed) -> None:
    if project.answers != EXECUTED[0]:
        pytest.skip("the workflows are the same in every project, and one run of them is long")


@contextmanager
def github() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Play GitHub: accept what is posted, and keep it."""
    asked: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, json.loads(body)))
            self.send_response(201 if self.path.endswith("/issues") else 204)
            self.end_headers()

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_api_is_as_its_documentation_says(service: Service, tmp_path: Path) -> None:
    """Hundreds of requests, valid and not: no 5xx, no status or answer that is not documented.

    A request that fits the JSON schema may still be refused, because a schema cannot say that the
    tensors of the Open Inference Protocol have one length.
    """
    words = [
        "--generation-deterministic",
        "--max-examples",
        "60",
        "--exclude-checks",
        "positive_data_acceptance",
    ]
    done = subprocess.run(
        [BIN / "schemathesis", "run", f"{service.address}/openapi.json", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert "No issues found" in done.stdout


PLAN = """\
ready_seconds: 1
look_seconds: 0.1
max_error_share: 0.01
canary: [{percent: 10, minutes: 0}]
"""


@dataclass
class Releases:
    """A project's releases by the real gcloud, to a service that is played but for its answers."""

    project: Executed
    google: Google
    folder: Path
    variables: dict[str, str]
    model: dict[str, Any]

    def run(self, command: str, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            ["uv", "run", "--no-sync", "release", command, "--env", "production", *words],
            cwd=self.project.path, env={**self.project.variables, **self.variables},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    def release(self, number: int, *, broken: bool = False) -> tuple[int, str]:
        image = f"registry.example/app@sha256:{number:064x}"
        if broken:
            self.google.broken.add(image)
        named = {"release": f"r2026010203040{number}-00000000", "image": image, "code": "c" * 40}
        place = self.folder / f"{number}.json"
        place.write_text(json.dumps({"format": 1, "model": self.model, **named}))
        return self.run("deploy", "--manifest", str(place))

    def happened(self) -> list[str]:
        lines = self.google.objects["production/journal.jsonl"].decode().splitlines()
        return [json.loads(line)["what"] for line in lines]


@pytest.fixture
def releases(promoted: Executed, service: Service, tmp_path: Path) -> Iterator[Releases]:
    """Releases of the promoted model, answered by the running service; a placeholder serves."""
    if promoted.answers["cloud"] != "cloud-run":
        pytest.skip("it is not released to Cloud Run")
    if shutil.which("gcloud") is None:
        pytest.skip("GCLOUD IS NOT INSTALLED: no release was replayed with it")
    bundle = tmp_path / "bundle"
    version = promoted.status()["stages"]["production"]
    words = ["release", "bundle", "--version", version, "--out", str(bundle)]
    promoted.run("uv", "run", "--no-sync", *words)
    known = json.loads((bundle / "version.json").read_text())
    model = {name: known[name] for name in ("name", "version", "bundle_sha256")}
    google = Google(service.address)
    google.start("app-production", "registry.example/placeholder")
    plan = promoted.path / "configs" / "release.yaml"
    kept = plan.read_text()
    plan.write_text(PLAN)
    try:
        with answering(google) as port:
            yield Releases(promoted, google, tmp_path, variables(tmp_path, port), model)
    finally:
        plan.write_text(kept)


def test_real_gcloud_does_what_a_release_asks_of_it(releases: Releases) -> None:
    google, old = releases.google, {"app-production-00001-abc": 100}
    first = {"app-production-00002-abc": 100}
    canary = {"app-production-00002-abc": 10, "app-production-00001-abc": 90}

    code, said = releases.release(1)
    assert (code, google.splits) == (0, [old, canary, first]), said
    # Else Terraform's next change would ask for another revision of that name, and be refused.
    assert "name" not in google.services["app-production"]["spec"]["template"]["metadata"]

    code, said = releases.release(2, broken=True)
    assert (code, google.splits) == (3, [old, canary, first])
    assert "not ready within 1 s" in said

    google.statuses = [200] * 45 + [503] * 5
    code, said = releases.release(3)
    assert (code, google.splits[-1]) == (3, first)
    assert "5 of 50 requests failed at 10 %" in said

    google.statuses = [200] * 50
    changed = [{"name": "MAX_WAITING", "value": "64"}]  # as an apply does
    google.services["app-production"]["spec"]["template"]["spec"]["containers"][0]["env"] = changed
    code, said = releases.release(4)
    assert (code, google.splits[-1]) == (0, {"app-production-00005-abc": 100}), said
    assert google.revisions["app-production-00005-abc"]["spec"]["containers"][0]["env"] == changed
    assert releases.run("rollback", "--reason", "wrong")[0] == 0
    assert google.splits[-1] == first
    assert releases.happened() == [
        "staged", "canary", "promoted",
        "staged", "rejected",
        "staged", "canary", "rejected",
        "staged", "canary", "promoted",
        "rolled back", "promoted",
    ]  # fmt: skip


def test_real_gcloud_writes_a_lock_once(releases: Releases) -> None:
    held = {"owner": "CI run 7", "release": "r", "since": "2026-01-01 00:00:00Z", "before": None}
    releases.google.objects["production/lock.json"] = json.dumps(held).encode()
    code, said = releases.release(1)
    assert (code, releases.google.splits) == (4, [{"app-production-00001-abc": 100}])
    assert "CI run 7" in said
    assert releases.run("unlock")[0] == 0
    assert "production/lock.json" not in releases.google.objects


def test_service_stops_when_told(service: Service) -> None:
    os.killpg(service.process.pid, signal.SIGTERM)
    service.process.wait(STOP_SECONDS)
    said = service.log.read_text()
    assert "Application shutdown complete" in said
    assert "Traceback" not in said
    with pytest.raises(OSError, match="refused"):
        service.get("/healthz")


@pytest.fixture(scope="module")
def serving_environment(promoted: Executed) -> Path:
    """Install what a service needs and nothing else, as an image would."""
    place = promoted.path.parent / "serving"
    words = ["--quiet", "--frozen", "--no-default-groups", "--group", "extra-serving"]
    place_variable = f"UV_PROJECT_ENVIRONMENT={place}"
    promoted.run("env", place_variable, "uv", "sync", *words, "--compile-bytecode")
    return place


def test_serving_environment_is_small(serving_environment: Path) -> None:
    (packages,) = serving_environment.glob("lib/python*/site-packages")
    sizes = [path.stat().st_size for path in packages.rglob("*") if path.suffix != ".pyc"]
    assert sum(sizes) < SERVING_BYTES
    names = {path.name.partition("-")[0] for path in packages.glob("*.dist-info")}
    assert len(names) <= SERVING_PACKAGES, names
    assert names.isdisjoint(NOT_SERVED)


def test_a_bundle_is_served_without_registry_or_training_libraries(
    promoted: Executed, serving_environment: Path
) -> None:
    promoted.run("make", "bundle")
    python = [str(serving_environment / "bin/python"), "-m", f"{PACKAGE}.serving"]
    nowhere = {"MODEL_BUNDLE": "bundle", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    offline = json.loads(promoted.python(str(OFFLINE), PACKAGE, given=json.dumps(INSTANCES)))
    log = promoted.path.parent / "bundle.log"
    with running(promoted, python, log, **nowhere) as service:
        answer = service.get("/predict", {"instances": INSTANCES})
        mapped = Path(f"/proc/{service.process.pid}/maps").read_text()
    assert answer.get("probabilities", answer["predictions"]) == as_exported(offline)
    assert not any(f"/{name}/" in mapped for name in NOT_SERVED)


def test_service_withstands_faults(promoted: Executed) -> None:
    """Registry, files, disks, clients and workers fail; answers stay right."""
    target = promoted.path / "src" / PACKAGE / "tests/serving"
    shutil.copytree(OFFLINE.with_name("serving"), target)
    try:
        assert " passed" in promoted.run("make", "test", f"ARGS={target}")
    finally:
        shutil.rmtree(target)


def test_projects_own_tests_pass(promoted: Executed) -> None:
    printed = promoted.run("make", "test")
    assert " passed" in printed
    assert " skipped" not in printed  # as are tests of the export where a model has none
