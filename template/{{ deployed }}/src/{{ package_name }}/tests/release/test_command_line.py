"""The command line: who says what to whom, and with which exit code."""

import json
import subprocess
from pathlib import Path

import pytest

from ... import config
from ...errors import ConfigError
from ...release import __main__ as release_command
from ...release import build, variables
from ...release.interface import RejectedError
from ...release.plan import Plan
from ...release.targets import TARGETS
from .conftest import PLAN, MemoryCloud, release


@pytest.fixture
def main(cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryCloud:
    """The command in a repository with one commit, over the memory cloud."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=start"], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(release_command, "ROOT", tmp_path)
    monkeypatch.setattr(release_command, "open_cloud", lambda _environment: cloud)
    quick = PLAN.model_copy(update={"look_seconds": 0.001, "canary": []})
    monkeypatch.setattr(config, "load", lambda _name, _section: quick)
    release(1).save(tmp_path / "release.json")
    return cloud


def test_shipped_plan_is_valid() -> None:
    plan = config.load("release", Plan)
    percents = [step.percent for step in plan.canary]
    assert percents == sorted(percents)
    assert percents


def test_release_from_its_manifest_and_back(
    main: MemoryCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release_command.main(["deploy", "--env", "staging"]) == 0
    assert json.loads(capsys.readouterr().out) == {"serves": release(1).release}
    release(2).save(Path("release.json"))
    assert release_command.main(["deploy", "--env", "production"]) == 0
    assert release_command.main(["rollback", "--env", "production", "--reason", "bad"]) == 0
    assert main.traffic() == {release(1).release: 100}
    capsys.readouterr()
    assert release_command.main(["status", "--env", "production"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["traffic"] == {release(1).release: 100}
    assert status["journal"][0]["note"] == "bad"
    assert release_command.main(["unlock", "--env", "production"]) == 0


def test_rejected_release_is_an_error(main: MemoryCloud) -> None:
    main.broken.add(release(1).release)
    with pytest.raises(RejectedError):
        release_command.main(["deploy", "--env", "production"])


def test_manifest_names_the_commit(main: MemoryCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []

    def run(line: list[str]) -> str:
        words.extend(line)
        main.images[line[-2].rpartition(":")[2]] = "sha256:" + "a" * 64
        tag = next((word for word in line if word.startswith("example/app:")), "")
        main.images[tag.rpartition(":")[2]] = "sha256:" + "a" * 64
        return ""

    monkeypatch.setattr(build, "run", run)
    monkeypatch.setenv(variables.ALL, json.dumps({"IMAGE_REPOSITORY": "example/app"}))
    Path("version.json").write_text(release(1).model.model_dump_json())
    assert release_command.main(["build", "--env", "staging", "--model", "version.json"]) == 0
    made = json.loads(Path("release.json").read_text())
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert made["code"] == head.stdout.strip()
    assert made["image"] == "example/app@sha256:" + "a" * 64
    assert "baked" in words


def test_wrong_source_of_the_model_is_refused(
    main: MemoryCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main
    for source in {"burned", "registry"} - set(TARGETS):
        monkeypatch.setenv("MODEL_SOURCE", source)
        with pytest.raises(ConfigError, match=f"MODEL_SOURCE='{source}': this project takes baked"):
            release_command.main(["build", "--env", "staging"])


def test_changes_that_are_not_committed_are_not_built(main: MemoryCloud) -> None:
    assert main
    Path("new.py").write_text("")
    subprocess.run(["git", "add", "new.py"], check=True)
    Path("version.json").write_text(release(1).model.model_dump_json())
    with pytest.raises(ConfigError, match="not committed"):
        release_command.main(["build", "--env", "staging", "--model", "version.json"])


def test_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variables.ALL, '{"ONE": "1"}')
    assert variables.variable("ONE") == "1"
    assert variables.variable("TWO", "2") == "2"
    with pytest.raises(ConfigError, match="TWO is not set"):
        variables.variable("TWO")
    monkeypatch.setenv(variables.ALL, "{")
    with pytest.raises(ConfigError, match="not JSON"):
        variables.variable("ONE")


def test_variables_of_another_environment_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE", "app-staging")
    assert variables.of_environment("SERVICE", "staging") == "app-staging"
    with pytest.raises(ConfigError, match=r"SERVICE is app-staging, so .* of production"):
        variables.of_environment("SERVICE", "production")
