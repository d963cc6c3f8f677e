"""Find a version that no stage holds yet, to fetch its bundle: it is released first, then moves."""

from collections.abc import Callable

from .. import registry
from ..errors import RegistryError
from ..serving.source import Release
from ..settings import Settings
from ..tracking import connect


def numbered(number: str) -> Callable[[Settings], Release]:
    """Return what finds a version by its number, whatever its stage.

    It raises RegistryError where there is no such version, or it has no bundle.
    """

    def find(settings: Settings) -> Release:
        name = settings.model_name
        version = registry.version(connect(settings), name, number)
        if version.bundle_digest is None:
            raise RegistryError(
                f"version {number} of {name!r} has no {registry.BUNDLE_DIGEST_TAG} tag, so there "
                "is no bundle to release; register it again with "
                '`make run ARGS="register --force"`'
            )
        return Release(
            name=name,
            version=number,
            stage=settings.model_stage,
            sha256=version.digest,
            bundle_sha256=version.bundle_digest,
            run_id=version.run_id,
        )

    return find
