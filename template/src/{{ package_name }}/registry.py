"""Model versions and their aliases. A new version has no alias; `staging` and `production` move."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.entities.model_registry.model_version_search import ModelVersionSearch
from mlflow.exceptions import MlflowException

from .backend import TAG_JOINT
from .digests import tree_digest
from .errors import RegistryError, no_version

PRODUCTION = "production"
STAGES = ("staging", PRODUCTION)
DIGEST_TAG = "sha256"
BUNDLE = "bundle"  # the folder, among the artifacts of a version's run, that a service loads
BUNDLE_DIGEST_TAG = f"bundle{TAG_JOINT}sha256"
RUNTIME_TAG, NOTE_TAG = f"bundle{TAG_JOINT}runtime", f"bundle{TAG_JOINT}note"
QUARANTINE_TAG = "quarantined"
# MLflow writes this file into what it downloads; it is not part of the model.
DOWNLOAD_NOTE = frozenset({"registered_model_meta"})


@dataclass(frozen=True)
class Version:
    """One registered version; numbers are text, as they are over HTTP."""

    name: str
    number: str
    run_id: str
    status: str
    created_ms: int
    tags: dict[str, str]

    @property
    def digest(self) -> str | None:
        """The SHA-256 of its files, as recorded when it was registered."""
        return self.tags.get(DIGEST_TAG)

    @property
    def bundle_digest(self) -> str | None:
        """The SHA-256 of the bundle that is served, as recorded when it was registered."""
        return self.tags.get(BUNDLE_DIGEST_TAG)


def _version(found: ModelVersion) -> Version:
    return Version(
        found.name,
        str(found.version),
        str(found.run_id),
        str(found.status),
        int(found.creation_timestamp),
        dict(found.tags),
    )


def model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """Return a registered model with its aliases and tags, or None where there is none."""
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if not _absent(error):
            raise
        return None


def _absent(error: MlflowException) -> bool:
    """Tell whether the registry itself says so: a proxy's page of status 404 is an error."""
    return error.error_code == "RESOURCE_DOES_NOT_EXIST" and "error code 404" not in str(error)


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Return the version each alias points to; empty where the model does not exist yet."""
    found = model(client, name)
    return {alias: str(number) for alias, number in found.aliases.items()} if found else {}


def versions(client: MlflowClient, name: str) -> list[Version]:
    """Return all versions, newest first."""
    found: list[Version] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        # What a search finds has no tags in some registries.
        whole = (
            client.get_model_version(name, each.version)
            if isinstance(each, ModelVersionSearch)
            else each
            for each in page
        )
        found += map(_version, whole)
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.number), reverse=True)


def version(client: MlflowClient, name: str, number: str) -> Version:
    """Return one version by its number.

    Raises
    ------
    RegistryError
        There is no such version.
    """
    try:
        if number.isdecimal():
            return _version(client.get_model_version(name, number))
    except MlflowException as error:
        if not _absent(error):
            raise
    raise RegistryError(f"model {name!r} has no version {number}; `make status` lists them")


def resolve(client: MlflowClient, name: str, alias: str) -> Version:
    """Return the version an alias points to.

    Raises
    ------
    RegistryError
        No version has the alias.
    """
    number = aliases(client, name).get(alias)
    if number is None:
        raise no_version(name, alias)
    return version(client, name, number)


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def fetch(wanted: Version, folder: Path) -> Path:
    """Download a version's files and check them against the recorded digest.

    Raises
    ------
    RegistryError
        The files cannot be had, or differ from those that were registered.
    """
    uri = f"models:/{wanted.name}/{wanted.number}"
    return _checked(
        wanted, DIGEST_TAG, lambda: download_artifacts(artifact_uri=uri, dst_path=str(folder))
    )


def fetch_bundle(client: MlflowClient, wanted: Version, folder: Path) -> Path:
    """Download the bundle that a service would load and check it against the recorded digest.

    Raises
    ------
    RegistryError
        The version has no bundle, or not the one that was registered.
    """
    return _checked(
        wanted,
        BUNDLE_DIGEST_TAG,
        lambda: client.download_artifacts(wanted.run_id, BUNDLE, str(folder)),
    )


def _checked(wanted: Version, tag: str, download: Callable[[], str]) -> Path:
    label = f"version {wanted.number} of {wanted.name!r}"
    recorded = wanted.tags.get(tag)
    if recorded is None:
        raise RegistryError(
            f"{label} has no {tag} tag, so its files cannot be checked; register it again"
        )
    try:
        path = Path(download())
    except (MlflowException, OSError) as error:
        raise RegistryError(f"{label}: its files cannot be downloaded: {error}") from None
    digest = tree_digest(path, DOWNLOAD_NOTE)
    if digest != recorded:
        raise RegistryError(
            f"{label}: its files have {tag} {digest[:12]}, {recorded[:12]} was registered; "
            "they were altered or truncated, so register the model again"
        )
    return path
