"""The same contract on ECS: aws's words, and what they leave behind."""

import json
from collections.abc import Iterator
from email.message import Message

import pytest

from ...errors import ConfigError, ConflictError
from ...release import cloud as adapter
from ...release import command
from ...release.cloud import CANDIDATE, HEADERS, Ecs, open_cloud
from ...release.interface import CloudError, RejectedError
from ...release.program import Program
from .aws import GROUPS, LISTENER, PLACEHOLDER, REPOSITORY, Aws
from .conftest import PLAN, Killed, answering, expect_errors, release


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    fake = Aws()
    monkeypatch.setattr(command, "attempt", fake)
    monkeypatch.setattr(adapter, "attempt", fake)
    return fake


@pytest.fixture
def run(aws: Aws) -> Iterator[Program]:
    """The program over ECS, with a load balancer that knows the candidate's header."""

    def answer(path: str, headers: Message, body: bytes) -> tuple[int, object]:
        candidate = all(headers.get(name) == value for name, value in HEADERS.items())
        return aws.served(candidate, path, body)

    with answering(answer) as url:
        ecs = Ecs("production", "eu-west-1", "app", LISTENER, url, "bucket")
        yield Program(ecs, PLAN, report=lambda _line: None, wait=lambda _seconds: None)


def happened(aws: Aws) -> list[str]:
    lines = aws.objects["s3://bucket/production/journal.jsonl"].splitlines()
    return [json.loads(line)["what"] for line in lines]


def changes(aws: Aws) -> list[str]:
    """Return what was changed, in few words."""
    found = []
    for line in aws.lines:
        if " update-service " in line:
            found.append(line.partition("--cluster=app ")[2])
        if " modify-listener " in line:
            groups = json.loads(line.partition("--default-actions=")[2])[0]["ForwardConfig"]
            weights = {g["TargetGroupArn"]: g["Weight"] for g in groups["TargetGroups"]}
            found.append(f"candidate {weights[GROUPS[CANDIDATE]]} %")
    return found


def test_good_release_tests_the_candidate_then_rolls_the_live_service(
    aws: Aws, run: Program
) -> None:
    revision = run.release(release(1))
    started = f"--service=candidate --task-definition={revision}"
    assert changes(aws) == [
        f"{started} --desired-count=2 --force-new-deployment",
        "candidate 10 %",
        "candidate 50 %",
        f"--service=live --task-definition={revision}",
        "candidate 0 %",
        "--service=candidate --desired-count=0",
    ]
    assert run.cloud.traffic() == {revision: 100}
    assert aws.definitions == {revision: release(1).image}
    assert happened(aws) == ["staged", "canary", "canary", "promoted"]


def test_released_again_it_starts_nothing(aws: Aws, run: Program) -> None:
    revision = run.release(release(1))
    before = len(changes(aws))
    assert run.release(release(1)) == revision
    assert len(changes(aws)) == before
    assert len(aws.definitions) == 1


def test_failed_smoke_leaves_traffic_and_stops_the_candidate(aws: Aws, run: Program) -> None:
    aws.broken.add(release(1).image)
    with pytest.raises(RejectedError, match="answers 503"):
        run.release(release(1))
    assert run.cloud.traffic() == {PLACEHOLDER: 100}
    assert aws.services[CANDIDATE]["desiredCount"] == 0
    assert happened(aws) == ["staged", "rejected"]


def test_errors_of_the_canary_are_counted_by_the_load_balancer(aws: Aws, run: Program) -> None:
    aws.errors = 10
    with pytest.raises(RejectedError, match="10 of 100 requests failed at 10 %"):
        run.release(release(1))
    assert run.cloud.traffic() == {PLACEHOLDER: 100}
    line = next(line for line in aws.lines if "get-metric-statistics" in line)
    assert "Name=LoadBalancer,Value=app/app/0a " in line
    assert line.endswith("Name=TargetGroup,Value=targetgroup/app-candidate/1")


def test_candidate_that_takes_no_connection_is_an_error(aws: Aws, run: Program) -> None:
    aws.errors, aws.unreachable = 1, 6
    with pytest.raises(RejectedError, match="7 of 100 requests failed at 10 %"):
        run.release(release(1))


def test_circuit_breaker_is_no_success(aws: Aws, run: Program) -> None:
    aws.dying.add(release(1).image)
    with pytest.raises(RejectedError, match=r"ECS went back to .*placeholder:1: circuit br"):
        run.release(release(1))
    assert run.cloud.traffic() == {PLACEHOLDER: 100}
    assert happened(aws)[-1] == "rejected"


def test_failed_start_is_no_candidate(aws: Aws, run: Program) -> None:
    aws.unfit.add(release(1).image)
    with pytest.raises(RejectedError, match=r"candidate: the deployment of .* failed"):
        run.release(release(1))
    assert run.cloud.traffic() == {PLACEHOLDER: 100}
    assert aws.services[CANDIDATE]["desiredCount"] == 0
    assert happened(aws) == ["rejected"]


def test_failed_start_can_be_tried_again(aws: Aws, run: Program) -> None:
    aws.unfit.add(release(1).image)
    with pytest.raises(RejectedError, match="did not start"):
        run.release(release(1))
    aws.unfit.clear()
    revision = run.release(release(1))
    assert run.cloud.traffic() == {revision: 100}
    assert len(aws.definitions) == 1


def test_candidate_that_never_is_healthy_is_stopped(
    aws: Aws, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "DEPLOYMENT_SECONDS", 0)
    with pytest.raises(RejectedError, match=r"candidate: .* was not deployed in 0 s"):
        run.release(release(1))
    assert aws.services[CANDIDATE]["desiredCount"] == 0


def test_release_cancelled_while_it_starts_is_stopped(aws: Aws, run: Program) -> None:
    def cancel() -> None:
        if aws.services[CANDIDATE]["desiredCount"]:
            aws.spoil = {}
            raise SystemExit

    aws.spoil = {"describe-services": cancel}
    with pytest.raises(SystemExit):
        run.release(release(1))
    assert aws.services[CANDIDATE]["desiredCount"] == 0


@pytest.mark.parametrize(
    "line",
    [
        "register-task-definition", "service=candidate --task", '"Weight": 10',
        "get-metric", "service=live", '"Weight": 0', "desired-count=0", "s3 rm",
    ],
)  # fmt: skip
def test_killed_release_is_taken_up(
    line: str, aws: Aws, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> None:
        aws.spoil = {"aws": kill}
        raise Killed

    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    aws.spoil = {line: kill}
    with pytest.raises(Killed):
        run.release(release(1))
    aws.spoil = {}
    assert set(run.cloud.traffic()) <= {PLACEHOLDER, *aws.definitions}
    revision = run.release(release(1))
    assert run.cloud.traffic() == {revision: 100}
    assert aws.services[CANDIDATE]["desiredCount"] == 0
    assert len(aws.definitions) == 1


def test_killed_release_can_be_put_back(
    aws: Aws, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> None:
        aws.spoil = {"aws": kill}
        raise Killed

    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    aws.spoil = {'"Weight": 0': kill}  # the live service has just been rolled over
    with pytest.raises(Killed):
        run.release(release(1))
    aws.spoil = {}
    assert PLACEHOLDER in (run.unlock() or "")
    assert run.cloud.traffic() == {PLACEHOLDER: 100}
    assert aws.services[CANDIDATE]["desiredCount"] == 0


def test_second_release_is_refused(aws: Aws, run: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def second() -> None:
        aws.spoil = {}
        monkeypatch.setenv("GITHUB_RUN_ID", "8")
        with pytest.raises(ConflictError) as error:
            run.release(release(2))
        refused.append(str(error.value))

    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    aws.spoil = {"get-metric": second}
    revision = run.release(release(1))
    assert "CI run 7" in refused[0]
    assert run.cloud.traffic() == {revision: 100}


def test_rollback_returns_to_the_earlier_revision(aws: Aws, run: Program) -> None:
    first = run.release(release(1))
    run.release(release(2))
    assert run.rollback("wrong") == first
    assert run.cloud.traffic() == {first: 100}
    assert happened(aws)[-2:] == ["rolled back", "promoted"]


def test_image_is_found_by_its_tag(aws: Aws, run: Program) -> None:
    aws.images["here"] = "sha256:" + "a" * 64
    assert run.cloud.image_digest(REPOSITORY, "here") == "sha256:" + "a" * 64
    assert run.cloud.image_digest(REPOSITORY, "her") is None
    assert "--registry-id=1 --repository-name=app --image-ids=imageTag=her" in aws.lines[-1]


@pytest.mark.parametrize("name", ["app", "imagenotfoundexception-nosuchkey-preconditionfailed"])
def test_error_is_not_taken_for_absence(
    name: str, aws: Aws, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = CloudError(f"An error occurred (AccessDenied): you are not authorized to read {name}")
    monkeypatch.setattr(aws, "answer", lambda *_: denied)
    expect_errors(run.cloud, "AccessDenied")


def test_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("AWS_REGION", "ECS_CLUSTER", "ECS_LISTENER", "SERVICE_URL", "RELEASE_BUCKET")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="AWS_REGION is not set"):
        open_cloud("staging")
    for name in names:
        monkeypatch.setenv(name, name.lower())
    monkeypatch.setenv("ECS_CLUSTER", "app-staging")
    assert open_cloud("staging").bucket == "release_bucket"
    with pytest.raises(ConfigError, match="ECS_CLUSTER is app-staging"):
        open_cloud("production")
