"""The same contract on Cloud Run: gcloud's words, and what they leave behind."""

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ...errors import ConfigError, ConflictError
from ...release import cloud as adapter
from ...release import command
from ...release.cloud import CloudRun, open_cloud
from ...release.interface import CloudError, RejectedError
from ...release.program import Program
from .conftest import PLACEHOLDER, Killed, MemoryCloud, expect_errors, release

REPOSITORY = "europe-west1-docker.pkg.dev/project/app/app"


@dataclass
class Gcloud:
    """Answers gcloud's command lines as Google would; the memory cloud's server is the service."""

    memory: MemoryCloud
    traffic: list[dict[str, Any]]
    revisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=lambda: [200] * 100)
    lines: list[str] = field(default_factory=list)
    spoil: dict[str, Callable[[], None]] = field(default_factory=dict)

    def __call__(
        self, words: Sequence[str], text: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        line = " ".join(words)
        self.lines.append(line)
        for start, action in list(self.spoil.items()):
            if start in line:
                action()
        options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
        names = [word for word in words[1:] if not word.startswith("--")]
        done = subprocess.CompletedProcess(list(words), 0, "", "")
        answer = self.answer(names, options, text)
        if isinstance(answer, CloudError):
            done.returncode, done.stderr = 1, str(answer)
        else:
            done.stdout = answer if isinstance(answer, str) else json.dumps(answer)
        return done

    def answer(self, names: list[str], options: dict[str, str], text: str | None) -> Any:
        images = [{"tags": [tag], "version": v} for tag, v in self.memory.images.items()]
        answers: dict[str, Callable[[], Any]] = {
            "run services describe": self.service,
            "run services update-traffic": lambda: self.update(options),
            "run deploy": lambda: self.deploy(options),
            "run revisions list": lambda: list(self.revisions.values()),
            "logging read": lambda: "\n".join(map(str, self.statuses)),
            "auth print-identity-token": lambda: "token\n",
            "artifacts docker images list": lambda: images,
            "storage": lambda: self.store(names[1:], options, text),
        }
        line = " ".join(names)
        return next(answer() for words, answer in answers.items() if line.startswith(words))

    def service(self) -> Any:
        base = self.memory.address
        targets = [
            {**t, "url": f"{base}/{t['revisionName']}"} if "tag" in t else t for t in self.traffic
        ]
        return {"status": {"url": f"{base}/public", "traffic": targets}}

    def deploy(self, options: dict[str, str]) -> str:
        name = f"app-{len(self.revisions):05d}-abc"
        label = options["update-labels"].removeprefix("release=")
        self.revisions[name] = {
            "metadata": {"name": name, "labels": {"release": label},
                         "creationTimestamp": f"2026-01-01T00:00:{len(self.revisions):02d}Z"}
        }  # fmt: skip
        number = int(label.partition("-")[0][-1])
        self.memory.manifests[name] = release(number)
        if label in self.memory.broken:
            self.memory.broken.add(name)
        return ""

    def tag(self, name: str | None) -> None:
        self.traffic = [t for t in self.traffic if "tag" not in t]
        if name:
            self.traffic.append({"revisionName": name, "tag": "candidate"})

    def update(self, options: dict[str, str]) -> str:
        if "to-revisions" in options:
            split = [pair.split("=") for pair in options["to-revisions"].split(",")]
            tagged = [t for t in self.traffic if "tag" in t]
            self.traffic = [{"revisionName": n, "percent": int(p)} for n, p in split] + tagged
            self.memory.weights = {name: int(percent) for name, percent in split}
        if "update-tags" in options:
            self.tag(options["update-tags"].partition("=")[2])
        if "remove-tags" in options:
            self.tag(None)
        return ""

    def store(self, rest: list[str], options: dict[str, str], text: str | None) -> Any:
        name = rest[-1]
        if rest[0] == "cp":
            if options.get("if-generation-match") == "0" and name in self.objects:
                return CloudError("HTTPError 412: At least one of the pre-conditions did not hold")
            self.objects[name] = text or ""
            return ""
        if name not in self.objects:
            return CloudError("The following URLs matched no objects or files:")
        return self.objects[name] if rest[0] == "cat" else self.objects.pop(name) and ""


@pytest.fixture
def gcloud(cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch) -> Gcloud:
    fake = Gcloud(cloud, [{"revisionName": PLACEHOLDER, "percent": 100}])
    monkeypatch.setattr(command, "attempt", fake)
    monkeypatch.setattr(adapter, "attempt", fake)
    return fake


@pytest.fixture
def run(gcloud: Gcloud, program: Program) -> Program:
    """The program over Cloud Run."""
    assert gcloud
    service = CloudRun("production", "project", "europe-west1", "app", "bucket", "cd@project")
    return Program(service, program.plan, program.report, program.wait)


def happened(gcloud: Gcloud) -> list[str]:
    lines = gcloud.objects["gs://bucket/production/journal.jsonl"].splitlines()
    return [json.loads(line)["what"] for line in lines]


def test_good_release_moves_traffic_by_named_revisions(gcloud: Gcloud, run: Program) -> None:
    revision = run.release(release(1))
    changes = [line for line in gcloud.lines if " run deploy " in line or "update-traffic" in line]
    where = "--project=project --region=europe-west1 --quiet"
    traffic = "gcloud run services update-traffic app"
    deploy = f"gcloud run deploy app --image={release(1).image} --no-traffic"
    assert changes == [
        f"{deploy} --update-labels=release={release(1).release} {where}",
        f"{traffic} --update-tags=candidate={revision} {where}",
        f"{traffic} --to-revisions={revision}=10,{PLACEHOLDER}=90 {where}",
        f"{traffic} --to-revisions={revision}=50,{PLACEHOLDER}=50 {where}",
        f"{traffic} --to-revisions={revision}=100 {where}",
    ]
    assert run.cloud.traffic() == {revision: 100}
    assert happened(gcloud) == ["staged", "canary", "canary", "promoted"]


def test_smoke_test_identifies_itself_to_the_service(gcloud: Gcloud, run: Program) -> None:
    run.release(release(1))
    tokens = {line for line in gcloud.lines if "print-identity-token" in line}
    address = gcloud.memory.address
    command_line = "gcloud auth print-identity-token --impersonate-service-account=cd@project"
    assert tokens == {f"{command_line} --audiences={address}/public"}


def test_a_person_asks_the_service_as_oneself(
    gcloud: Gcloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GCP_PROJECT", "GCP_REGION", "CLOUD_RUN_SERVICE", "RELEASE_BUCKET"):
        monkeypatch.setenv(name, name.lower())
    monkeypatch.setenv("CLOUD_RUN_SERVICE", "app-production")
    monkeypatch.setenv("GCP_SERVICE_ACCOUNT", "cd@project")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert open_cloud("production").caller == "cd@project"
    monkeypatch.delenv("GITHUB_ACTIONS")
    open_cloud("production").public()
    assert gcloud.lines[-1] == "gcloud auth print-identity-token"


def test_failed_smoke_leaves_traffic_and_no_address(gcloud: Gcloud, run: Program) -> None:
    gcloud.memory.broken.add(release(1).release)
    with pytest.raises(RejectedError, match="answers 500"):
        run.release(release(1))
    assert gcloud.traffic == [{"revisionName": PLACEHOLDER, "percent": 100}]
    assert happened(gcloud) == ["staged", "rejected"]


def test_failed_start_leaves_traffic_and_no_address(gcloud: Gcloud, run: Program) -> None:
    def fail() -> None:
        raise CloudError("the revision is not ready")

    gcloud.spoil = {"update-tags": fail}
    with pytest.raises(RejectedError, match=f"did not start: .* {PLACEHOLDER} serves"):
        run.release(release(1))
    assert gcloud.traffic == [{"revisionName": PLACEHOLDER, "percent": 100}]
    back = f"--to-revisions={PLACEHOLDER}=100 --remove-tags=candidate"
    assert any(back in line for line in gcloud.lines)
    assert happened(gcloud) == ["rejected"]


def test_errors_of_the_canary_are_counted_in_the_request_log(gcloud: Gcloud, run: Program) -> None:
    gcloud.statuses = [200] * 90 + [503] * 10
    with pytest.raises(RejectedError, match="10 of 100 requests failed at 10 %"):
        run.release(release(1))
    assert run.cloud.traffic() == {PLACEHOLDER: 100}
    query = next(line for line in gcloud.lines if "logging read" in line)
    assert 'revision_name="app-00000-abc"' in query


@pytest.mark.parametrize("line", ["run deploy", "=10,", "logging read", "=100", "storage rm"])
def test_killed_release_is_taken_up(
    line: str, gcloud: Gcloud, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> None:
        gcloud.spoil = {"gcloud": kill}
        raise Killed

    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    gcloud.spoil = {line: kill}
    with pytest.raises(Killed):
        run.release(release(1))
    gcloud.spoil = {}
    revision = run.release(release(1))
    assert run.cloud.traffic() == {revision: 100}
    assert len(gcloud.revisions) == 1


def test_second_release_is_refused(
    gcloud: Gcloud, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def second() -> None:
        gcloud.spoil = {}
        monkeypatch.setenv("GITHUB_RUN_ID", "8")
        with pytest.raises(ConflictError) as error:
            run.release(release(2))
        refused.append(str(error.value))

    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    gcloud.spoil = {"logging read": second}
    revision = run.release(release(1))
    assert "CI run 7" in refused[0]
    assert run.cloud.traffic() == {revision: 100}


def test_rollback_returns_to_the_earlier_revision(gcloud: Gcloud, run: Program) -> None:
    first = run.release(release(1))
    run.release(release(2))
    assert run.rollback("wrong") == first
    assert run.cloud.traffic() == {first: 100}
    assert happened(gcloud)[-2:] == ["rolled back", "promoted"]


def test_traffic_that_did_not_move_is_no_success(gcloud: Gcloud, run: Program) -> None:
    def stuck() -> None:
        gcloud.spoil["services describe"] = lambda: setattr(
            gcloud, "traffic", [{"revisionName": PLACEHOLDER, "percent": 100}]
        )

    gcloud.spoil["=100 "] = stuck
    with pytest.raises(RejectedError, match="was given all traffic, but"):
        run.release(release(1))


def test_image_is_found_by_its_tag(gcloud: Gcloud, run: Program) -> None:
    gcloud.memory.images["here"] = "sha256:" + "a" * 64
    assert run.cloud.image_digest(REPOSITORY, "here") == "sha256:" + "a" * 64
    assert run.cloud.image_digest(REPOSITORY, "her") is None


@pytest.mark.parametrize(
    "said",
    [
        "PERMISSION_DENIED: the caller does not have permission on acme-404412",
        "HTTPError 403: cd@acme-404412.iam has no access on resource (or it may not be found).",
        "ERROR: (gcloud.storage.cat) gs://acme-404412 not found: 404.",  # the bucket itself
    ],
)
def test_error_is_not_taken_for_absence(
    said: str, gcloud: Gcloud, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcloud, "answer", lambda *_: CloudError(said))
    expect_errors(run.cloud, "acme-404412")


def test_object_that_goes_while_it_is_asked_for_is_absent(
    gcloud: Gcloud, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = CloudError("ERROR: gs://bucket/production%2Flock.json not found: 404.")
    monkeypatch.setattr(gcloud, "answer", lambda *_: gone)
    assert run.cloud.read("lock.json") is None
    run.cloud.delete("lock.json")


def test_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GCP_PROJECT", "GCP_REGION", "CLOUD_RUN_SERVICE", "RELEASE_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="GCP_PROJECT is not set"):
        open_cloud("staging")
    for name in ("GCP_PROJECT", "GCP_REGION", "CLOUD_RUN_SERVICE", "RELEASE_BUCKET"):
        monkeypatch.setenv(name, name.lower())
    monkeypatch.setenv("CLOUD_RUN_SERVICE", "app-staging")
    assert open_cloud("staging").bucket == "release_bucket"
    with pytest.raises(ConfigError, match="CLOUD_RUN_SERVICE is app-staging"):
        open_cloud("production")
