"""Where the model in service comes from: a folder, or a registry that is asked without MLflow.

A bundle is data: reading it runs nothing. Its SHA-256 is compared with the one that was recorded
when the version was registered, before anything in it is opened.
"""

import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from .. import backend
from ..digests import tree_digest
from ..errors import RegistryError, first_line, no_version
from ..settings import Settings
from . import rest

RECORD = "version.json"
ARTIFACTS = "bundle"
DIGEST_TAG = f"bundle{backend.TAG_JOINT}sha256"
SQLITE = "sqlite:///"
SQLITE_SECONDS = 5.0
RETRIES = 2  # of MLflow's client


class Release(BaseModel):
    """Which version a bundle is of. `sha256` is of the registered model, as `status` shows it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    version: str
    stage: str
    sha256: str | None
    bundle_sha256: str
    run_id: str = ""

    def __str__(self) -> str:
        """Return how messages call it."""
        return f"version {self.version} of {self.name!r}"


def resolve(settings: Settings) -> Release:
    """Return the version that is to be served now.

    Raises
    ------
    RegistryError
        It cannot be found out, there is none, or it was registered without a bundle.
    """
    if settings.model_bundle is not None:
        return _recorded(settings.model_bundle)
    uri = settings.mlflow_registry_uri or settings.mlflow_tracking_uri
    if uri.startswith(("http://", "https://")):
        return _release(settings, *rest.version(uri, settings.model_name, settings.model_stage))
    if uri.startswith(SQLITE):
        return _release(settings, *_from_sqlite(uri, settings.model_name, settings.model_stage))
    return _release(settings, *_with_client(settings, uri))


def bring(settings: Settings, release: Release, folder: Path) -> Path:
    """Return a folder that holds a release's bundle: the configured one, or `folder`, filled.

    Raises
    ------
    RegistryError
        The files cannot be had, or are not those that were registered.
    """
    if settings.model_bundle is not None:
        return verified(settings.model_bundle, release)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        _downloader(settings.mlflow_tracking_uri)(release.run_id, folder)
        verified(folder, release)
        (folder / RECORD).write_text(release.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise RegistryError(f"the bundle of {release} cannot be kept: {error}") from None
        raise
    return folder


def verified(folder: Path, release: Release) -> Path:
    """Return the folder if its files are the registered ones.

    Raises
    ------
    RegistryError
        They are not.
    """
    digest = tree_digest(folder, frozenset({RECORD}))
    if digest != release.bundle_sha256:
        raise RegistryError(
            f"the bundle of {release} has sha256 {digest[:12]}, {release.bundle_sha256[:12]} was "
            "registered; it was altered or truncated, so register the model again"
        )
    return folder


def _recorded(folder: Path) -> Release:
    """Read the record that `make bundle` left in a folder."""
    try:
        return Release.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise RegistryError(
            f"MODEL_BUNDLE={folder} is not a bundle that `make bundle` made: {reason}"
        ) from None


def _release(settings: Settings, found: Mapping[str, Any], tags: Mapping[str, str]) -> Release:
    release = Release(
        name=settings.model_name,
        version=str(found["version"]),
        stage=settings.model_stage,
        sha256=tags.get("sha256"),
        bundle_sha256=tags.get(DIGEST_TAG, ""),
        run_id=str(found["run_id"]),
    )
    if not release.bundle_sha256:
        raise RegistryError(
            f"{release} has no {DIGEST_TAG} tag, so there is no bundle to serve; register it "
            'again with `make run ARGS="register --force"`, and promote that version'
        )
    return release


def _from_sqlite(uri: str, name: str, alias: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Look an alias up in the store's tables, which are opened for reading only."""
    with closing(_open(uri)) as store:
        found = store.execute(
            "select version, run_id from model_versions join registered_model_aliases "
            "using (name, version) where name = ? and alias = ?",
            (name, alias),
        ).fetchone()
        if found is None:
            raise no_version(name, alias)
        tags = store.execute(
            "select key, value from model_version_tags where name = ? and version = ?",
            (name, found["version"]),
        )
        return dict(found), {row["key"]: row["value"] for row in tags}


def _open(uri: str) -> sqlite3.Connection:
    path = Path(uri.removeprefix(SQLITE).partition("?")[0]).absolute()
    try:
        store = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=SQLITE_SECONDS)
        store.row_factory = sqlite3.Row
        store.execute("select version from registered_model_aliases limit 1")
    except sqlite3.Error as error:
        raise RegistryError(
            f"the registry {path} cannot be read: {error}; run `make run promote` first, "
            "or set MLFLOW_TRACKING_URI or MODEL_BUNDLE"
        ) from None
    return store


def _downloader(uri: str) -> Callable[[str, Path], None]:
    if uri.startswith(("http://", "https://")):
        return lambda run_id, folder: rest.download(uri, run_id, ARTIFACTS, folder)
    if uri.startswith(SQLITE):
        return lambda run_id, folder: _copy(uri, run_id, folder)
    return lambda run_id, folder: _download_with_client(uri, run_id, folder)


def _copy(uri: str, run_id: str, folder: Path) -> None:
    """Copy a run's bundle from where a local store keeps its artifacts."""
    with closing(_open(uri)) as store:
        found = store.execute("select artifact_uri from runs where run_uuid = ?", (run_id,))
        location = urlsplit((found.fetchone() or [""])[0])
    source = Path(unquote(location.path)) / ARTIFACTS
    if location.scheme not in {"", "file"} or not source.is_dir():
        raise RegistryError(f"the bundle of run {run_id} is not at {source}; register it again")
    shutil.copytree(source, folder, dirs_exist_ok=True)


def _with_client(settings: Settings, uri: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Ask any other store through MLflow's own client, where that is installed."""
    mlflow = _mlflow(uri)
    backend.prepare(uri, RETRIES)
    mlflow.set_tracking_uri(settings.mlflow_tracking_uri)  # some ways to log in look there
    client = mlflow.MlflowClient(registry_uri=uri)
    try:
        found = client.get_model_version_by_alias(settings.model_name, settings.model_stage)
    except Exception as error:  # noqa: BLE001  (each store raises its own kind)
        if getattr(error, "error_code", "") in rest.ABSENT:
            raise no_version(settings.model_name, settings.model_stage) from None
        raise RegistryError(f"the registry does not answer: {first_line(error)}") from None
    return {"version": found.version, "run_id": found.run_id}, dict(found.tags)


def _download_with_client(uri: str, run_id: str, folder: Path) -> None:
    mlflow = _mlflow(uri)
    try:
        found = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=ARTIFACTS, tracking_uri=uri
        )
    except Exception as error:  # noqa: BLE001
        raise RegistryError(f"the bundle cannot be downloaded: {first_line(error)}") from None
    shutil.copytree(found, folder, dirs_exist_ok=True)


def _mlflow(uri: str) -> ModuleType:
    try:
        return import_module("mlflow")
    except ImportError:
        raise RegistryError(
            f"a registry at {uri.partition(':')[0]}: needs MLflow, which the service does not "
            "install; bake a bundle with `make bundle` and set MODEL_BUNDLE"
        ) from None
