"""The part of Google's APIs that a release asks for by gcloud, played on this machine.

It is a proxy, so that gcloud keeps the paths and hosts it would use: Cloud Run's Knative v1 API,
Cloud Storage and its uploads, Cloud Logging, IAM Credentials and Service Usage.
"""

import json
import re
import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

APIS = {
    "RUN": "",
    "STORAGE": "storage/v1/",
    "LOGGING": "",
    "IAMCREDENTIALS": "",
    "SERVICEUSAGE": "",
}
DOWNLOADS = "http://storage.invalid/download/storage/v1/b/bucket/o"
TYPES = ("Ready", "ConfigurationsReady", "RoutesReady")
READY = [{"type": each, "status": "True"} for each in TYPES]
IDENTITY = ".".join(
    urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"none"}', b'{"exp":32503680000}', b"signature")
)
Answer = tuple[int, Any]
# What Google wants to be allowed for a request, and by a member of what, as Terraform calls it.
RIGHTS = (
    (r"POST iamcredentials\..*:generateAccessToken", "iam.serviceAccounts.getAccessToken",
     "service_account"),
    (r"POST iamcredentials\..*:generateIdToken", "iam.serviceAccounts.getOpenIdToken",
     "service_account"),
    (r"GET .*run\..*/services/[^/]+", "run.services.get", "cloud_run_v2_service"),
    (r"PUT .*run\..*/services/[^/]+", "run.services.update", "cloud_run_v2_service"),
    (r"GET .*run\..*/revisions", "run.revisions.list", "project"),
    (r"POST logging\..*/entries:list", "logging.logEntries.list", "project"),
    (r"GET storage\..*/o", "storage.objects.list", "storage_bucket"),
    (r"GET storage\..*/o/.*", "storage.objects.get", "storage_bucket"),
    (r"DELETE storage\..*/o/.*", "storage.objects.delete", "storage_bucket"),
    (r"(POST|PUT) storage\..*/o", "storage.objects.create", "storage_bucket"),
    # Whether an API is on: gcloud goes on where it may not ask.
    (r"GET serviceusage\..*", "", ""),
)  # fmt: skip


def variables(folder: Path, port: int) -> dict[str, str]:
    """Return what makes gcloud ask the proxy as somebody signed in, and names for the release."""
    (folder / "token").write_text("token")
    return {
        "CLOUDSDK_CONFIG": str(folder / "config"),
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(folder / "token"),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "0",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "1",
        "GCP_PROJECT": "project",
        "GCP_REGION": "europe-west1",
        "GCP_SERVICE_ACCOUNT": "cd@project.iam.gserviceaccount.com",
        "GITHUB_ACTIONS": "true",  # a job asks the service as that account
        "CLOUD_RUN_SERVICE": "app-production",
        "RELEASE_BUCKET": "bucket",
        "http_proxy": f"http://127.0.0.1:{port}",
        "no_proxy": "127.0.0.1",
        **{
            f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": f"http://{name.lower()}.invalid/{path}"
            for name, path in APIS.items()
        },
    }


@dataclass
class Google:
    """One project's services, revisions, objects and requests, and where its revisions answer."""

    address: str
    broken: set[str] = field(default_factory=set)
    services: dict[str, Any] = field(default_factory=dict)
    revisions: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=lambda: [200] * 50)
    splits: list[dict[str, int]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)

    def answer(self, method: str, url: str, body: bytes) -> Answer:
        """Answer one request as Google would, or say that nothing here is so called."""
        parts = urlsplit(url)
        host, path = parts.hostname or "storage", unquote(parts.path)  # pyarrow's asks directly
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append(f"{method} {host}{path}")
        api = host.removesuffix(".invalid").rpartition("-")[2]
        apis: dict[str, Callable[[], Answer]] = {
            "run": lambda: self.run(method, path, body),
            "storage": lambda: self.storage(method, parts.path, given, body),
            "logging": lambda: (200, {"entries": [self.entry(code) for code in self.statuses]}),
            "iamcredentials": lambda: self.token(path),
            "serviceusage": lambda: (200, {"state": "ENABLED"}),
        }
        return apis[api]() if api in apis else missing(path)

    def token(self, path: str) -> Answer:
        if path.endswith(":generateIdToken"):
            return 200, {"token": IDENTITY}
        return 200, {"accessToken": "access", "expireTime": "2999-01-01T00:00:00Z"}

    def entry(self, status: int) -> Any:
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"httpRequest": {"status": status}, "timestamp": at, "insertId": "1"}

    def run(self, method: str, path: str, body: bytes) -> Answer:
        kind, _, name = path.partition("/namespaces/project/")[2].partition("/")
        if kind == "services" and method in {"PUT", "POST"}:
            return 200, self.put(json.loads(body))
        known = {"services": self.services, "revisions": self.revisions}.get(kind, {})
        if method == "GET" and name:
            return (200, known[name]) if name in known else missing(path)
        return 200, {"items": list(known.values()), "metadata": {}}

    def start(self, name: str, image: str) -> None:
        """Have a service that serves an image, as Terraform leaves it."""
        template = {"metadata": {}, "spec": {"containers": [{"image": image}]}}
        about = {"name": name, "namespace": "project"}
        known = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
        self.put({**known, "metadata": about, "spec": {"template": template}})

    def put(self, service: Any) -> Any:
        """Make a revision of a template that differs, and put the traffic asked for into effect."""
        name, template = service["metadata"]["name"], service["spec"]["template"]
        if template != self.services.get(name, {}).get("spec", {}).get("template"):
            revision = self.make(name, template)
            service["status"] = {
                "latestCreatedRevisionName": revision, "latestReadyRevisionName": revision,
            }  # fmt: skip
        status = service["status"]
        latest = status["latestReadyRevisionName"]
        traffic = service["spec"].setdefault("traffic", [{"latestRevision": True, "percent": 100}])
        effect = [self.target({"revisionName": latest, **target}) for target in traffic]
        most = max(effect, key=lambda target: target.get("percent", 0))["revisionName"]
        status |= {"conditions": READY, "traffic": effect, "url": self.url(most)}
        about = service["metadata"]
        status["observedGeneration"] = about["generation"] = about.get("generation", 0) + 1
        split = {t["revisionName"]: t["percent"] for t in effect if t.get("percent")}
        self.splits += [split] if split not in self.splits[-1:] else []
        self.services[name] = service
        return service

    def make(self, service: str, template: Any) -> str:
        """Make a revision; only its creation gives it a name, unless the template has one."""
        number = len(self.revisions) + 1
        name = template["metadata"].get("name") or f"{service}-{number:05d}-abc"
        labels = {**template["metadata"].get("labels", {}), "serving.knative.dev/service": service}
        about = {"name": name, "labels": labels, "namespace": "project"}
        about["creationTimestamp"] = f"2026-01-01T00:00:{number:02d}Z"
        self.revisions[name] = {
            "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": about,
            "spec": template["spec"], "status": {"conditions": READY[:1]},
        }  # fmt: skip
        return name

    def target(self, target: dict[str, Any]) -> dict[str, Any]:
        return {**target, "url": self.url(target["revisionName"])} if "tag" in target else target

    def url(self, revision: str) -> str:
        """Return the address of a revision; nobody listens at the one of a broken one."""
        image = self.revisions[revision]["spec"]["containers"][0]["image"]
        return "http://127.0.0.1:9" if image in self.broken else self.address

    def storage(  # noqa: PLR0911  (one return for each kind of call)
        self, method: str, path: str, given: Mapping[str, str], body: bytes
    ) -> Answer:
        if "upload_id" in given:
            name = self.uploads[int(given["upload_id"])]
            self.objects[name] = body
            return 200, described(name, body)
        name = unquote(path.partition("/o/")[2])
        if method == "POST":
            return self.upload(given, json.loads(body)["name"])
        if name in self.objects:
            if method == "DELETE":
                del self.objects[name]
                return 204, b""
            whole = self.objects[name]
            return (200, whole) if given.get("alt") == "media" else (200, described(name, whole))
        if path.endswith("/b/bucket"):
            return 200, {"kind": "storage#bucket", "name": "bucket"}
        if path.endswith("/o"):
            found = [n for n in self.objects if n.startswith(given.get("prefix", ""))]
            return 200, {"items": [described(n, self.objects[n]) for n in found]}
        return missing(path)

    def upload(self, given: Mapping[str, str], name: str) -> Answer:
        """Begin an upload, unless another generation than the one expected is there."""
        if given.get("ifGenerationMatch") == "0" and name in self.objects:
            message = "At least one of the pre-conditions you specified did not hold."
            return 412, {"error": {"code": 412, "message": message}}
        self.uploads.append(name)
        return 200, {"upload_id": len(self.uploads) - 1}


def needed(asked: Iterable[str]) -> set[tuple[str, str]]:
    """Return the rights that requests take, and on what; each must be known."""
    rights = {
        next((right, on) for form, right, on in RIGHTS if re.fullmatch(form, each))
        for each in asked
    }
    return rights - {("", "")}


def described(name: str, content: bytes) -> Any:
    return {
        "kind": "storage#object", "bucket": "bucket", "name": name, "generation": "1",
        "size": str(len(content)), "metageneration": "1",
        "mediaLink": f"{DOWNLOADS}/{quote(name, '')}?alt=media",
        "md5Hash": b64encode(md5(content, usedforsecurity=False).digest()).decode(),
    }  # fmt: skip


def missing(path: str) -> Answer:
    return 404, {"error": {"code": 404, "message": f"{path} not found", "status": "NOT_FOUND"}}


@contextmanager
def answering(google: Google) -> Iterator[int]:
    """Answer for Google as a proxy; give its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = google.answer(self.command, self.path, body)
            raw = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            if isinstance(said, dict) and "upload_id" in said:
                self.send_header("Location", f"{self.path}&upload_id={said['upload_id']}")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
