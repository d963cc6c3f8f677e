"""The pipeline's memory: run a stage only when something it depends on has changed.

A stage's fingerprint is a hash over its parameters, its input files, the source of every module
of this package it imports, the versions of Python and of the project's dependencies, and the
fingerprints of the stages before it. Outputs are written to a temporary folder that is renamed
when complete, so a killed run leaves either the old outputs or the new ones.
"""

import ast
import fcntl
import hashlib
import json
import os
import shutil
import sysconfig
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.requirements import Requirement

from .digests import file_digest, path_digest, tree_digest
from .errors import StageError
from .settings import ROOT

CODE = Path(__file__).parent
RECORD = "stage.json"


@dataclass(frozen=True)
class Stage:
    """One step: `run` writes files into the folder it is given, and nothing anywhere else."""

    name: str
    run: Callable[[Path], None]
    modules: Sequence[ModuleType]
    params: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[Path] = ()
    still_valid: Callable[[Path], bool] = lambda _: True


def source_files(modules: Sequence[ModuleType]) -> set[Path]:
    """Return the modules' files and those of what they import, directly or not, from this package.

    Imports are read from the source, relative and absolute ones, inside functions too.
    """
    found: set[Path] = set()
    waiting = [Path(str(module.__file__)) for module in modules]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_bytes())):
            for target in _imported(node, path):
                waiting += [target.with_name(f"{target.name}.py"), target / "__init__.py"]
    return found


def _imported(node: ast.AST, path: Path) -> list[Path]:
    """Return where the modules would be, without suffix, that an import in `path` may name."""
    if isinstance(node, ast.Import):
        return [CODE.parent / alias.name.replace(".", "/") for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    folder = path.parents[node.level - 1] if node.level else CODE.parent
    if node.module:
        folder /= node.module.replace(".", "/")
    return [folder, *(folder / alias.name for alias in node.names)]


def dependency_versions() -> dict[str, str]:
    """Return the installed version of each library that serving or training asks for by name.

    Raises
    ------
    StageError
        One of them is not installed.
    """
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = asked["dependency-groups"]
    added = [*groups.get("extra", []), *groups.get("extra-serving", [])]
    lines = [*asked["project"]["dependencies"], *groups["train"], *added]
    requirements = [Requirement(line) for line in lines if isinstance(line, str)]
    try:
        return {r.name: metadata.version(r.name) for r in requirements if r.marker is None}
    except metadata.PackageNotFoundError as error:
        raise StageError(
            f"pyproject.toml names {error.name}, which is not installed; run `make install`"
        ) from None


def fingerprints(stages: Sequence[Stage]) -> dict[str, str]:
    """Return each stage's fingerprint; each includes the one before it."""
    result: dict[str, str] = {}
    versions = {"python": sysconfig.get_python_version(), **dependency_versions()}
    previous = ""
    for stage in stages:
        files = source_files(stage.modules)
        sources = {path.relative_to(CODE.parent).as_posix(): file_digest(path) for path in files}
        inputs = [path_digest(path) for path in stage.files]
        content = [stage.name, dict(stage.params), inputs, sources, versions, previous]
        text = json.dumps(content, sort_keys=True, default=str)
        previous = hashlib.sha256(text.encode()).hexdigest()
        result[stage.name] = previous
    return result


def is_current(folder: Path, fingerprint: str) -> bool:
    """Say whether the folder holds complete, unaltered outputs of this fingerprint."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    outputs = tree_digest(folder, frozenset({RECORD}))
    return bool(record == {"fingerprint": fingerprint, "outputs": outputs})


def execute(stage: Stage, fingerprint: str, root: Path) -> None:
    """Run one stage and put its outputs in place of the old ones."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{stage.name}-", dir=root))
    try:
        stage.run(temporary)
        record = {"fingerprint": fingerprint, "outputs": tree_digest(temporary)}
        (temporary / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        final, old = root / stage.name, root / f".{stage.name}-old"
        if final.exists():
            final.rename(old)
        temporary.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def plan(
    stages: Sequence[Stage], root: Path, *, first: str, last: str, force: bool
) -> list[tuple[Stage, str, bool]]:
    """List the stages from `first` to `last` with their fingerprints and whether each must run.

    Raises
    ------
    StageError
        `first` comes after `last`, or needs outputs that are missing or out of date.
    """
    names = [stage.name for stage in stages]
    begin, end = names.index(first), names.index(last)
    if begin > end:
        raise StageError(f"--from {first} comes after --to {last}; the order is {', '.join(names)}")
    marks = fingerprints(stages)
    for name in names[:begin]:
        if not is_current(root / name, marks[name]):
            raise StageError(
                f"stage {first!r} needs the outputs of {name!r}, which are missing or out of date; "
                f"run {name!r} first, or leave out --from"
            )
    planned = []
    stale = force
    for stage in stages[begin : end + 1]:
        folder = root / stage.name
        stale = stale or not (is_current(folder, marks[stage.name]) and stage.still_valid(folder))
        planned.append((stage, marks[stage.name], stale))
    return planned


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold the workspace for one run, after removing what a killed one left half-written.

    Raises
    ------
    StageError
        Another run holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StageError(
                f"another run (process {lock.read().strip() or 'unknown'}) is using {root}; "
                "wait for it or stop it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for leftover in root.glob(".*-*/"):
            shutil.rmtree(leftover)
        yield
