"""Fetch the bundle of a version that no stage holds yet: it is released first, and moves then."""

import tempfile
from pathlib import Path

from ..errors import RegistryError
from ..serving.source import DIGEST_TAG, RECORD, Release, bring
from ..settings import Settings
from ..tracking import connect


def fetch(settings: Settings, number: str, folder: Path) -> Release:
    """Write a version's bundle to a folder, which is replaced only by a whole one.

    Raises
    ------
    RegistryError
        There is no such version, it has no bundle, or the folder holds something else.
    """
    if folder.exists() and not (folder / RECORD).is_file():
        raise RegistryError(f"{folder} exists and is not a bundle; name another folder")
    release = _find(settings, number)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        found = bring(settings, release, Path(scratch) / "bundle")
        if folder.exists():
            folder.rename(Path(scratch) / "replaced")
        found.rename(folder)
    return release


def _find(settings: Settings, number: str) -> Release:
    client, name = connect(settings), settings.model_name
    found = client.search_model_versions(f"name = '{name}'")
    version = next((each for each in found if str(each.version) == number), None)
    if version is None:
        raise RegistryError(f"model {name!r} has no version {number}; `make status` lists them")
    if DIGEST_TAG not in version.tags:
        raise RegistryError(
            f"version {number} of {name!r} has no {DIGEST_TAG} tag, so there is no bundle to "
            'release; register it again with `make run ARGS="register --force"`'
        )
    return Release(
        name=name,
        version=number,
        stage=settings.model_stage,
        sha256=version.tags.get("sha256"),
        bundle_sha256=version.tags[DIGEST_TAG],
        run_id=str(version.run_id),
    )
