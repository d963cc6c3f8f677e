"""The bundle of a version that no stage holds is fetched by its number, and only whole."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import RestException

from ...errors import RegistryError
from ...release import bundle
from ...serving import fetch
from ...serving.source import DIGEST_TAG, RECORD, Release
from ...settings import Settings

DIGEST = "d" * 64


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Versions 1 and 2, of which the first was registered without a bundle."""
    known = {"name": "model", "status": "READY", "creation_timestamp": 0}
    tags = {DIGEST_TAG: DIGEST, "sha256": "s"}
    versions = [
        SimpleNamespace(version="1", run_id="r1", tags={}, **known),
        SimpleNamespace(version="2", run_id="r2", tags=tags, **known),
    ]

    def bring(settings: Settings, release: Release, folder: Path) -> Path:
        assert settings.model_bundle is None
        folder.mkdir()
        (folder / RECORD).write_text(release.model_dump_json())
        return folder

    def get(_name: str, number: str) -> SimpleNamespace:
        if number not in {"1", "2"}:
            told = {"error_code": "RESOURCE_DOES_NOT_EXIST"}
            raise RestException(told)  # type: ignore[no-untyped-call]
        return versions[int(number) - 1]

    client = SimpleNamespace(get_model_version=get)
    monkeypatch.setattr(bundle, "connect", lambda _settings: client)
    monkeypatch.setattr(fetch, "bring", bring)
    return versions


@pytest.fixture
def settings() -> Settings:
    return Settings(model_bundle=None)


def test_bundle_is_the_versions(
    registry: list[SimpleNamespace], settings: Settings, tmp_path: Path
) -> None:
    assert registry
    folder = tmp_path / "bundle"
    for _ in range(2):  # the second replaces the first
        made = fetch.fetch(settings, bundle.numbered("2"), folder)
        assert (made.version, made.run_id, made.bundle_sha256) == ("2", "r2", DIGEST)
        assert Release.model_validate_json((folder / RECORD).read_text()) == made
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("number", "said"), [("3", "has no version 3"), ("1", "there is no bundle to release")]
)
def test_version_that_cannot_be_released_is_named(
    number: str, said: str, registry: list[SimpleNamespace], settings: Settings, tmp_path: Path
) -> None:
    assert registry
    with pytest.raises(RegistryError, match=said):
        fetch.fetch(settings, bundle.numbered(number), tmp_path / "bundle")


def test_folder_of_something_else_is_left_alone(
    registry: list[SimpleNamespace], settings: Settings, tmp_path: Path
) -> None:
    assert registry
    (tmp_path / "mine").write_text("")
    with pytest.raises(RegistryError, match="is not a bundle"):
        fetch.fetch(settings, bundle.numbered("2"), tmp_path)
