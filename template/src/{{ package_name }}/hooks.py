"""What happens besides: the pipeline and promotion call these, to tell people or to copy files.

An error here fails the command that called, after it has done its work. Print as you like: what
`after_move` prints goes to standard error, so that `--json` stays JSON.
"""

from pathlib import Path


def after_stage(name: str, outputs: Path) -> None:
    """Follow a stage of the pipeline that has just run; `outputs` is its folder in artifacts/."""


def after_move(stage: str, version: str) -> None:
    """Follow a promotion or rollback, after which `stage` is the given version."""
