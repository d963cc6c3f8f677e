"""Write the bundle of the version in service to a folder: `python -m <package>.serving.fetch`."""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import RegistryError, run_command
from ..settings import PACKAGE, Settings, load
from .source import RECORD, Release, bring, resolve


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the bundle of the version in service."""
    parser = argparse.ArgumentParser(prog=f"{PACKAGE}.serving.fetch", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    out: Path = parser.parse_args(arguments).out
    release = fetch(load(), resolve, out)
    print(f"{out}  {release}, sha256 {release.bundle_sha256}")
    return 0


def fetch(settings: Settings, find: Callable[[Settings], Release], out: Path) -> Release:
    """Find a version, download and verify its bundle; the folder is replaced only by a whole one.

    Raises
    ------
    RegistryError
        There is no such version or bundle, or the folder holds something else.
    """
    settings = settings.model_copy(update={"model_bundle": None})
    if out.exists() and not (out / RECORD).is_file():
        raise RegistryError(f"{out} exists and is not a bundle; name another folder")
    release = find(settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        found = bring(settings, release, Path(scratch) / "bundle")
        if out.exists():
            out.rename(Path(scratch) / "replaced")
        found.rename(out)
    return release


if __name__ == "__main__":
    run_command(main)
