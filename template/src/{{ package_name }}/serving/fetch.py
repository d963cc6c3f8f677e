"""Write the bundle of the version in service to a folder: `python -m <package>.serving.fetch`."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import RegistryError, run_command
from ..settings import PACKAGE, load
from .source import RECORD, bring, resolve


def main(arguments: Sequence[str] | None = None) -> int:
    """Resolve, download, verify; the folder is replaced only by a whole bundle."""
    parser = argparse.ArgumentParser(prog=f"{PACKAGE}.serving.fetch", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    out: Path = parser.parse_args(arguments).out
    settings = load().model_copy(update={"model_bundle": None})
    if out.exists() and not (out / RECORD).is_file():
        raise RegistryError(f"{out} exists and is not a bundle; name another folder")
    release = resolve(settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        found = bring(settings, release, Path(scratch) / "bundle")
        if out.exists():
            out.rename(Path(scratch) / "replaced")
        found.rename(out)
    print(f"{out}  {release}, sha256 {release.bundle_sha256}")
    return 0


if __name__ == "__main__":
    run_command(main)
