"""An image is built once, and known by its digest from then on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ...errors import ConfigError
from ...release import build, manifest
from ...release.build import Source
from ...release.interface import CloudError
from .conftest import MemoryCloud, release

REPOSITORY = "registry.example/app"
SOURCE = Source("c" * 40, release(1).model, "baked")
DIGEST = "sha256:" + "a" * 64


Record = Callable[[str], list[list[str]]]


@pytest.fixture
def commands_that_push(cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Return a function that gives the list of what is run; running it pushes an image's tag."""

    def record(tag: str) -> list[list[str]]:
        commands: list[list[str]] = []

        def run(words: list[str]) -> str:
            commands.append(words)
            cloud.images[tag] = DIGEST
            return ""

        monkeypatch.setattr(build, "run", run)
        return commands

    return record


def test_image_is_pushed_and_named_by_digest(
    cloud: MemoryCloud, commands_that_push: Record
) -> None:
    commands = commands_that_push(SOURCE.tag)
    made = build.build(cloud, REPOSITORY, SOURCE)
    assert made.image == f"{REPOSITORY}@{DIGEST}"
    assert [words[:2] for words in commands] == [["docker", "build"], ["docker", "push"]]
    assert f"GIT_SHA={'c' * 40}" in commands[0]


def test_image_that_is_there_is_not_built_again(
    cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.images[SOURCE.tag] = DIGEST
    monkeypatch.setattr(build, "run", pytest.fail)
    assert build.build(cloud, REPOSITORY, SOURCE).image.endswith(DIGEST)


def test_monitoring_image_is_of_its_own_target(
    cloud: MemoryCloud, commands_that_push: Record
) -> None:
    commands = commands_that_push("monitoring-cccccccccccc")
    assert build.monitoring(cloud, REPOSITORY, "c" * 40) == f"{REPOSITORY}@{DIGEST}"
    assert commands[0][-3:] == ["--target", "monitoring", "."]
    assert build.monitoring(cloud, REPOSITORY, "c" * 40) == f"{REPOSITORY}@{DIGEST}"
    assert len(commands) == 2


def test_image_that_the_registry_does_not_know_is_an_error(
    cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "run", lambda _words: "")
    with pytest.raises(CloudError, match="the registry does not know it"):
        build.build(cloud, REPOSITORY, SOURCE)


def test_manifest_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "release.json"
    release(1).save(path)
    assert manifest.load(path) == release(1)


@pytest.mark.parametrize(
    ("key", "value"),
    [("image", "registry.example/app:latest"), ("code", "main"), ("extra", 1), ("format", 2)],
)
def test_manifest_with_a_wrong_value_is_refused(key: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "release.json"
    path.write_text(json.dumps({**release(1).model_dump(), key: value}))
    with pytest.raises(ConfigError, match=key):
        manifest.load(path)


def test_version_json_without_a_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "version.json"
    path.write_text(json.dumps({"name": "example", "version": "1"}))
    with pytest.raises(ConfigError, match="bundle_sha256"):
        manifest.load_model(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        manifest.load_model(tmp_path / "absent.json")
