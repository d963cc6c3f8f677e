"""Keeps a service on the version its alias names, without dropping a request.

One process, the leader, asks the registry. A new version is fetched, verified, loaded beside the
old one and tried; only then is it published, and every worker takes it up at the same moment. A
version that fails in any of that is refused and the old one stays, as it does while the registry
is away.
"""

import asyncio
import logging
import math
import multiprocessing
import shutil
import signal
import time
from pathlib import Path

from .. import bundle
from ..errors import ProjectError, RegistryError
from ..settings import Settings
from . import source
from .batcher import Served, tried
from .board import Board, News, Published
from .observe import RELOADS, now

TICK_SECONDS = 0.5
# Workers load a published version before they take it up; one that is later follows when it can.
LOADING_SECONDS = 3.0
RETRY_SECONDS = 300.0
log = logging.getLogger(__name__)


def load(folder: Path, release: source.Release) -> Served:
    """Load a bundle whose digest was checked, and try it.

    Raises
    ------
    RegistryError
        It cannot be loaded or does not predict.
    """
    scorer = bundle.load(folder)
    return tried(release, scorer, scorer.description)


class Keeper:
    """Holds the model in service, and replaces it when another one is published."""

    def __init__(self, settings: Settings, board: Board, folder: Path, served: Served) -> None:
        self._settings = settings
        self._board = board
        self._folder = folder  # where bundles are fetched to
        self._next_look = 0.0
        self._refused: source.Release | None = None
        self._reason = ""
        self._retry_at = 0.0
        self._tried: Served | None = None  # loaded by this leader, and not yet in service
        self.served = served

    def current(self) -> Served:
        """Return the model that answers now."""
        return self.served

    def labels(self) -> dict[str, str]:
        """Return what the metrics say of the model that answers."""
        release = self.served.release
        return {
            "name": release.name,
            "version": release.version,
            "sha256": release.bundle_sha256,
            "runtime": self.served.about.runtime,
        }

    async def run(self) -> None:
        """Follow what is published, and look for more if this process leads; for ever."""
        self._put_off(self._settings.reload_seconds)
        while True:
            await asyncio.sleep(TICK_SECONDS)
            parent = multiprocessing.parent_process()  # none where one process is all there is
            if parent is not None and not parent.is_alive():
                log.error("the parent of the workers was killed, so this worker stops as well")
                signal.raise_signal(signal.SIGTERM)
                return
            try:
                await self.follow()
                if self._board.leads():
                    await self._look_if_due()
            except Exception:
                log.exception("looking for another version failed")

    def _put_off(self, seconds: float) -> None:
        self._next_look = time.monotonic() + (seconds or math.inf)  # 0: only when asked

    async def follow(self) -> None:
        """Take up what is published, once it is loaded and its moment has come."""
        published = self._board.read(Published)
        if published is None or published.release == self.served.release:
            return
        served, self._tried = self._tried, None
        if served is None or served.release != published.release:
            served = await asyncio.to_thread(load, published.folder, published.release)
        await asyncio.sleep(max(0.0, published.from_time - time.time()))
        before, self.served = self.served.release, served
        log.info("%s answers in place of version %s", served.release, before.version)

    async def _look_if_due(self) -> None:
        asked = self._board.asked()
        if not asked and time.monotonic() < self._next_look:
            return
        self._put_off(self._settings.reload_seconds)
        before = self._board.read(News)
        news, published = await asyncio.to_thread(self._look, asked)
        self._board.write(news)
        if news.problem:
            RELOADS.labels("unresolved").inc()
            if before is None or before.problem != news.problem:
                log.warning("%s; %s keeps answering", news.problem, self.served.release)
        if published is not None:
            self._board.write(published)
            RELOADS.labels("swapped").inc()
            await self.follow()
            self._tidy(published)

    def _look(self, asked: bool) -> tuple[News, Published | None]:
        """Ask which version is to be served; if it is another one, bring it and try it."""
        try:
            release = source.resolve(self._settings)
        except RegistryError as error:
            return News(checked_at=now(), problem=str(error)), None
        if release == self.served.release:
            return News(checked_at=now()), None
        if release == self._refused and time.monotonic() < self._retry_at and not asked:
            return News(checked_at=now(), refused=release.version, reason=self._reason), None
        try:
            place = self._folder / f"{release.version}-{release.bundle_sha256[:12]}"
            place = source.bring(self._settings, release, place)
            self._tried = load(place, release)
        except ProjectError as error:
            return self._refuse(release, str(error)), None
        wait = LOADING_SECONDS if self._settings.workers > 1 else 0.0
        return News(checked_at=now()), Published(
            folder=place, release=release, from_time=time.time() + wait
        )

    def _refuse(self, release: source.Release, reason: str) -> News:
        """Remember a bad version; the same bytes will hardly do better soon."""
        RELOADS.labels("refused").inc()
        log.error("%s; %s keeps answering", reason, self.served.release)
        self._refused, self._reason = release, reason
        self._retry_at = time.monotonic() + RETRY_SECONDS
        return News(checked_at=now(), refused=release.version, reason=reason)

    def _tidy(self, published: Published) -> None:
        """Remove the bundles that no worker will load any more; those in use are in memory."""
        if self._settings.model_bundle is None:
            for record in self._folder.glob(f"*/{source.RECORD}"):
                if record.parent != published.folder:
                    shutil.rmtree(record.parent, ignore_errors=True)
