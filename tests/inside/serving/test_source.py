"""A bundle is found, fetched and checked, from a local store or over MLflow's REST API."""

import base64
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ...digests import tree_digest
from ...errors import RegistryError
from ...serving import fetch, rest, source
from ...settings import Settings
from ..conftest import Project

Message = Callable[[Callable[[], Any]], str]


class Registry(ThreadingHTTPServer):
    """Answers as MLflow's server does, from a bundle's folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.digest = tree_digest(folder, frozenset({source.RECORD}))
        self.names: list[str] = sorted(p.name for p in folder.iterdir() if p.name != source.RECORD)
        self.lost_bytes = 0
        self.busy = 0
        self.seen: list[str] = []

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://user:pass@127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """One answer of the registry."""

    server: Registry

    def do_GET(self) -> None:
        self.server.seen.append(self.headers.get("Authorization", ""))
        asked = urlsplit(self.path)
        words = {name: values[0] for name, values in parse_qs(asked.query).items()}
        if self.server.busy:
            self.server.busy -= 1
            self._send(503, b"{}")
        elif asked.path.endswith("registered-models/alias"):
            self._alias(words["alias"])
        elif asked.path.endswith("artifacts/list"):
            files = [{"path": f"bundle/{name}", "is_dir": False} for name in self.server.names]
            self._send(200, json.dumps({"files": files}).encode())
        else:
            content = (self.server.folder / Path(words["path"]).name).read_bytes()
            self._send(200, content[: len(content) - self.server.lost_bytes])

    def _alias(self, alias: str) -> None:
        if alias != "production":
            self._send(400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "not found"}')
            return
        tags = [{"key": source.DIGEST_TAG, "value": self.server.digest}]
        version = {"version": "3", "run_id": "r1", "tags": tags}
        self._send(200, json.dumps({"model_version": version}).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def registry(baked: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    with Registry(baked) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def settings(uri: str, **more: Any) -> Settings:
    # MLflow exports the registry's address to the environment, once another test used it.
    known: dict[str, Any] = {"mlflow_tracking_uri": uri, "mlflow_registry_uri": None}
    return Settings(_env_file=None, **known, **more)


def brought(server: Registry, folder: Path) -> Path:
    release = source.resolve(settings(server.uri))
    return source.bring(settings(server.uri), release, folder)


def test_a_local_store_is_read_and_never_written(fetched: Path, trained: Project) -> None:
    store = trained.folder / "mlflow.db"
    before = store.read_bytes()
    release = source.resolve(trained.settings)
    assert release == source.resolve(settings("", model_bundle=fetched))
    assert (release.version, release.sha256) == ("1", trained.version()["sha256"])
    assert store.read_bytes() == before


def test_a_registrys_bundle_is_downloaded_and_checked(registry: Registry, tmp_path: Path) -> None:
    folder = brought(registry, tmp_path / "out")
    assert tree_digest(folder, frozenset({source.RECORD})) == registry.digest
    assert source.resolve(settings("", model_bundle=folder)).version == "3"
    assert set(registry.seen) == {f"Basic {base64.b64encode(b'user:pass').decode()}"}


def test_a_token_is_sent_and_a_busy_server_asked_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    monkeypatch.setattr(rest, "RETRIES", 1)
    registry.busy = 1
    source.resolve(settings(registry.uri.replace("user:pass@", "")))
    assert registry.seen == ["Bearer t0ken"] * 2


def test_a_truncated_file_is_refused_and_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    registry.lost_bytes = 1
    with pytest.raises(RegistryError, match="altered or truncated"):
        brought(registry, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../../planted", "..", "a/b", "/etc/planted"])
def test_a_file_name_that_leads_elsewhere_is_refused(
    registry: Registry, tmp_path: Path, name: str
) -> None:
    registry.names = [name]
    with pytest.raises(RegistryError, match="outside of bundle"):
        brought(registry, tmp_path / "out")


def test_a_version_that_is_not_there_is_told(registry: Registry, message: Message) -> None:
    wanted = settings(registry.uri, model_stage="nobody")
    assert "has no nobody version yet" in message(lambda: source.resolve(wanted))
    registry.digest = ""
    said = message(lambda: source.resolve(settings(registry.uri)))
    assert f"has no {source.DIGEST_TAG} tag" in said


def test_a_server_that_is_down_is_told_after_a_few_attempts(
    message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(rest, "RETRIES", 2)
    monkeypatch.setattr(time, "sleep", pauses.append)
    told = message(lambda: source.resolve(settings("http://user:pass@127.0.0.1:9")))
    assert "http://127.0.0.1:9 does not answer" in told
    assert "MODEL_BUNDLE" in told
    assert pauses == [1.0, 2.0]


def test_other_stores_need_mlflow_or_a_bundle(
    message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    told = message(lambda: source.resolve(settings("postgresql://u:secret@host/db")))
    assert "MODEL_BUNDLE" in told
    assert "secret" not in told


def test_fetching_again_replaces_a_bundle_and_nothing_else(
    fetched: Path, trained: Project, tmp_path: Path, message: Message
) -> None:
    del trained
    assert fetch.main(["--out", str(fetched)]) == 0
    (tmp_path / "kept").write_text("mine")
    assert "is not a bundle" in message(lambda: fetch.main(["--out", str(tmp_path)]))
    assert (tmp_path / "kept").read_text() == "mine"
