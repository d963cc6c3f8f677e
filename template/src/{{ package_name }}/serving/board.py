"""What the workers of one service share: the published model, news of it, and who looks for more.

One worker needs no files for that, so that a service of a baked bundle writes nothing at all.
"""

import contextlib
import fcntl
import tempfile
import time
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..settings import Settings
from .observe import now
from .source import Release, bring, resolve

FOLDER = "SERVING_FOLDER"  # the variable that names the folder to the workers
Model = TypeVar("Model", bound=BaseModel)


class Published(BaseModel):
    """The model that all workers are to answer with, from a moment on."""

    folder: Path
    release: Release
    from_time: float


class News(BaseModel):
    """What the last look at the registry brought."""

    checked_at: str
    problem: str | None = None  # why the registry could not be asked
    refused: str | None = None  # the version that is not served though its alias says so
    reason: str | None = None


class Board:
    """A few small records, in memory or in a folder; each is replaced as a whole."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._records: dict[str, BaseModel] = {}
        self._lock = None if folder is None else (folder / "leader.lock").open("w")
        self._leads = folder is None

    def write(self, record: BaseModel) -> None:
        """Replace the record of its class."""
        name = type(record).__name__.lower()
        if self.folder is None:
            self._records[name] = record
            return
        # Each write has its own temporary name: a leader may have died in the middle of one.
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as partial:
            partial.write(record.model_dump_json().encode())
        Path(partial.name).replace(self.folder / f"{name}.json")

    def read(self, kind: type[Model]) -> Model | None:
        """Return the record of a class, if there is one."""
        name = kind.__name__.lower()
        if self.folder is None:
            found = self._records.get(name)
            return found if isinstance(found, kind) else None
        try:
            return kind.model_validate_json((self.folder / f"{name}.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def leads(self) -> bool:
        """Say whether this process is the one that looks for new versions.

        The first to ask becomes it, and stays it while it lives.
        """
        if not self._leads and self._lock is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._leads = True
        return self._leads

    def ask_for_a_look(self) -> None:
        """Tell the leader that there may be news."""
        if self.folder is None:
            self._records["hint"] = News(checked_at="")
        else:
            (self.folder / "hint").touch()

    def asked(self) -> bool:
        """Say whether somebody asked since the last time."""
        if self.folder is None:
            return self._records.pop("hint", None) is not None
        try:
            (self.folder / "hint").unlink()
        except OSError:
            return False
        return True


def publish_first(settings: Settings, board: Board, folder: Path) -> Published:
    """Resolve, fetch and publish the version to start with."""
    release = resolve(settings)
    place = bring(settings, release, folder / f"{release.version}-{release.bundle_sha256[:12]}")
    published = Published(folder=place, release=release, from_time=time.time())
    board.write(published)
    board.write(News(checked_at=now()))
    return published
