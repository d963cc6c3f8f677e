"""Model versions and their aliases. A new version has no alias; `staging` and `production` move."""

from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from .digests import tree_digest
from .errors import RegistryError

STAGES = ("staging", "production")
DIGEST_TAG = "sha256"
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


def _version(found: ModelVersion) -> Version:
    return Version(
        found.name,
        str(found.version),
        str(found.run_id),
        str(found.status),
        int(found.creation_timestamp),
        dict(found.tags),
    )


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Return the version each alias points to; empty where the model does not exist yet.

    Absence is read from the list of models, so that an error is never taken for it.
    """
    models = client.search_registered_models(f"name = '{name}'")
    if not models:
        return {}
    return {
        alias: str(number) for alias, number in client.get_registered_model(name).aliases.items()
    }


def versions(client: MlflowClient, name: str) -> list[Version]:
    """Return all versions, newest first."""
    found = [_version(each) for each in client.search_model_versions(f"name = '{name}'")]
    return sorted(found, key=lambda version: int(version.number), reverse=True)


def version(client: MlflowClient, name: str, number: str) -> Version:
    """Return one version by its number.

    Raises
    ------
    RegistryError
        There is no such version.
    """
    for each in versions(client, name):
        if each.number == str(number):
            return each
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
        raise RegistryError(
            f"model {name!r} has no {alias} version yet; run `make run promote` first"
        )
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
    label = f"version {wanted.number} of {wanted.name!r}"
    if wanted.digest is None:
        raise RegistryError(f"{label} has no {DIGEST_TAG} tag, so its files cannot be checked")
    try:
        uri = f"models:/{wanted.name}/{wanted.number}"
        path = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        raise RegistryError(f"{label}: its files cannot be downloaded: {error}") from None
    digest = tree_digest(path, DOWNLOAD_NOTE)
    if digest != wanted.digest:
        raise RegistryError(
            f"{label}: its files have sha256 {digest[:12]}, {wanted.digest[:12]} was registered; "
            "they were altered or truncated, so register the model again"
        )
    return path
