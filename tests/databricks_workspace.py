"""A Databricks workspace as MLflow's own client sees it, for contract tests.

Experiments, runs and logged models are those of a real `mlflow server` behind it, because the
workspace's tracking API is the same. Unity Catalog's models, the Files API, sign-in by a service
principal and what `make doctor` asks are played here, with the rules that differ: experiments are
named by paths, models by three levels, tags take no dots, a search finds no tags, and a version is
ready once its files are finalized.
"""

import base64
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from managed import Answer, Handler, Played, RefusedError, Request, listening

CLIENT, SECRET = "service-principal", "of-the-principal"
CATALOG = "/api/2.0/mlflow/unity-catalog/"
FILES = ("/api/2.0/fs/files/", "/api/2.0/fs/directories/")
GITHUB, JOB = "/github/token", "signed-by-github"  # where a job asks for its token
SIGN_IN = "/oidc/v1/token"
STORED = {"Content-Type": "application/octet-stream"}


@dataclass
class Workspace(Played):
    """What it keeps."""

    models: dict[str, Answer] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    granted: set[str] = field(
        default_factory=lambda: {
            "APPLY_TAG", "CREATE_MODEL", "EXECUTE", "USE_CATALOG", "USE_SCHEMA",
        }
    )  # fmt: skip
    tokens: set[str] = field(default_factory=set)
    expires_after: int | None = None  # requests for which a token holds

    def login(self, **more: str) -> dict[str, str]:
        """Return what a person or a job exports."""
        return {
            "MLFLOW_TRACKING_URI": "databricks", "MLFLOW_REGISTRY_URI": "databricks-uc",
            "MLFLOW_EXPERIMENT_NAME": "/Shared/flights/runs", "MODEL_NAME": "main.ml.flights",
            "DATABRICKS_HOST": self.address, "DATABRICKS_CLIENT_ID": CLIENT,
            "DATABRICKS_CLIENT_SECRET": SECRET, **more,
        }  # fmt: skip

    # --- signing in -------------------------------------------------------------------------------

    def known_to_all(self, path: str) -> Answer | None:
        """Answer what is asked before signing in."""
        oidc = f"{self.address}/oidc"
        ends = {f"{kind}_endpoint": f"{oidc}/v1/{kind}" for kind in ("token", "authorization")}
        public: dict[str, Answer] = {
            "/": {},
            GITHUB: {"value": JOB},
            "/.well-known/databricks-config": {"oidc_endpoint": oidc, "workspace_id": "42"},
            "/oidc/.well-known/oauth-authorization-server": ends,
        }
        return public.get(path)

    def sign_in(self, headers: dict[str, str], content: bytes) -> Answer:
        """Give a token to a service principal, by its secret or by a job's token (RFC 8693)."""
        given = {name: values[0] for name, values in parse_qs(content.decode()).items()}
        job = given.get("subject_token") == JOB and given.get("client_id") == CLIENT
        told = base64.b64decode(headers.get("authorization", "").removeprefix("Basic ")).decode()
        if not job and told != f"{CLIENT}:{SECRET}":
            raise RefusedError(401, "invalid_client", "Client authentication failed")  # RFC 6749
        self.tokens.add(token := f"token-{len(self.tokens)}")
        return {"access_token": token, "token_type": "Bearer", "expires_in": 3600}

    def let_in(self, headers: dict[str, str]) -> None:
        """Let in whoever has a token."""
        if self.expires_after is not None:
            self.expires_after -= 1
            if self.expires_after < 0:
                self.tokens.clear()
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            raise RefusedError(403, "PERMISSION_DENIED", "Invalid access token.")

    # --- Unity Catalog ----------------------------------------------------------------------------

    def model(self, name: str) -> Answer:
        if name not in self.models:
            said = f"Registered model '{name}' does not exist."
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", said)
        return self.models[name]

    def version(self, name: str, number: str) -> Answer:
        found: Answer | None = self.model(name)["versions"].get(int(number))
        if found is None:
            raise RefusedError(
                404, "RESOURCE_DOES_NOT_EXIST", f"Model version {number} does not exist."
            )
        return found

    def catalog(self, method: str, verb: str, given: Answer) -> Answer:
        """Answer the calls of MLflow's UcModelRegistryService."""
        kind, _, what = verb.partition("/")
        name = given.get("name", "")
        if name and len(name.split(".")) != 3:
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"{name}: specify all three levels")
        for tag in given.get("tags", [given] if what == "set-tag" else []):
            _check(tag)
        if kind == "registered-models":
            return self._model_call(method, what, name, given)
        return self._version_call(what, name, given)

    def _model_call(self, method: str, what: str, name: str, given: Answer) -> Answer:
        if what == "create":
            if name in self.models:
                raise RefusedError(400, "RESOURCE_ALREADY_EXISTS", f"'{name}' already exists.")
            self.models[name] = {"name": name, "tags": {}, "aliases": {}, "versions": {}}
            self.models[name]["tags"].update({t["key"]: t["value"] for t in given.get("tags", [])})
            return {"registered_model": _described(self.models[name])}
        model = self.model(name)
        if what == "alias":
            return self._alias(method, model, given)
        if what == "delete":
            del self.models[name]
        elif what == "set-tag":
            model["tags"][given["key"]] = given["value"]
        elif what != "get":
            raise RefusedError(404, "ENDPOINT_NOT_FOUND", what)
        return {"registered_model": _described(model)} if what == "get" else {}

    def _alias(self, method: str, model: Answer, given: Answer) -> Answer:
        if method == "POST":
            self.version(model["name"], given["version"])
            model["aliases"][given["alias"]] = given["version"]
        elif method == "DELETE":
            model["aliases"].pop(given["alias"], None)
        else:
            if given["alias"] not in model["aliases"]:
                said = f"Alias {given['alias']} does not exist."
                raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", said)
            found = self.version(model["name"], model["aliases"][given["alias"]])
            return {"model_version": _described(found)}
        return {}

    def _version_call(self, what: str, name: str, given: Answer) -> Answer:
        if what == "search":
            (name,) = re.fullmatch(r"name = '(.+)'", given["filter"]).groups()  # type: ignore[union-attr]
            found = self.models[name]["versions"].values() if name in self.models else []
            lean = [{k: v for k, v in _described(v).items() if k != "tags"} for v in found]
            return {"model_versions": lean}
        if what == "create":
            versions = self.model(name)["versions"]
            number = len(versions) + 1
            kept: Answer = {k: given[k] for k in ("source", "run_id", "model_id") if k in given}
            made: Answer = {
                "name": name, "version": str(number), "status": "PENDING_REGISTRATION",
                "creation_timestamp": 1, "last_updated_timestamp": 1, **kept,
                "tags": {t["key"]: t["value"] for t in given.get("tags", [])},
            }  # fmt: skip
            versions[number] = made
            return {"model_version": _described(made)}
        version = self.version(name, given["version"])
        if what == "finalize":
            folder = f"/Models/{name.replace('.', '/')}/{version['version']}/"
            if not any(path == f"{folder}MLmodel" for path in self.files):
                raise RefusedError(400, "INVALID_STATE", "The version has no MLmodel file.")
            version["status"] = "READY"
        elif what == "set-tag":
            version["tags"][given["key"]] = given["value"]
            return {}
        elif what == "emit-lineage":
            return {}
        elif what != "get":
            raise RefusedError(404, "ENDPOINT_NOT_FOUND", what)
        return {"model_version": _described(version)}

    # --- files, and what `make doctor` asks -------------------------------------------------------

    def stored(self, method: str, path: str, content: bytes) -> bytes | None:
        """Answer the Files API: None is that there is no such file."""
        if method == "PUT":
            self.files[path] = content
        return self.files.get(path)

    def listed(self, path: str) -> Answer | None:
        """List a folder, or say that there is none."""
        inside = {p.removeprefix(f"{path}/") for p in self.files if p.startswith(f"{path}/")}
        if not inside:
            return None
        entries = [
            {
                "path": f"{path}/{name}", "name": name,
                "is_directory": f"{path}/{name}" not in self.files,
                "file_size": len(self.files.get(f"{path}/{name}", b"")),
            }
            for name in sorted({entry.partition("/")[0] for entry in inside})
        ]  # fmt: skip
        return {"contents": entries}

    def about(self, path: str, query: dict[str, str]) -> Answer:
        """Answer what is asked of people, folders and schemas."""
        if path.endswith("/scim/v2/Me"):
            return {"id": "1", "userName": CLIENT}
        if path == "/api/2.0/workspace/get-status":
            if query["path"] == "/Shared/flights":
                return {"object_type": "DIRECTORY", "path": query["path"]}
            raise RefusedError(
                404, "RESOURCE_DOES_NOT_EXIST", f"Path ({query['path']}) doesn't exist."
            )
        if path == "/api/2.1/unity-catalog/schemas/main.ml":
            return {"name": "ml", "catalog_name": "main", "full_name": "main.ml"}
        if path.startswith("/api/2.1/unity-catalog/effective-permissions/"):
            given = [{"privilege": name} for name in sorted(self.granted)]
            return {"privilege_assignments": [{"principal": CLIENT, "privileges": given}]}
        raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"{path} does not exist.")


def _check(tag: Answer) -> None:
    if re.search(r"[.,\-=/:]", tag["key"]) or len(tag["value"]) > 1000:
        raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"Tag {tag['key']!r} is not allowed.")


def _described(kept: Answer) -> Answer:
    told = {k: v for k, v in kept.items() if k not in {"tags", "aliases", "versions"}}
    told["tags"] = [{"key": k, "value": v} for k, v in kept["tags"].items()]
    if "aliases" in kept:
        told["aliases"] = [{"alias": a, "version": v} for a, v in kept["aliases"].items()]
    return told


class OfWorkspace(Handler):
    """Answers what differs from MLflow's own server."""

    played: Workspace

    def play(self, request: Request) -> bool:
        space, path = self.played, request.path
        told = space.known_to_all(path)
        if told is not None or path == SIGN_IN:
            return self.say(
                200, space.sign_in(request.headers, request.content) if told is None else told
            )
        space.let_in(request.headers)
        if path.startswith(CATALOG):
            given = {**request.query, **request.body}
            return self.say(200, space.catalog(self.command, path.removeprefix(CATALOG), given))
        if path.startswith(FILES):
            return self.file(path, request.content)
        if not path.startswith(("/api/2.0/mlflow/", "/api/3.0/mlflow/")):
            return self.say(200, space.about(path, request.query))
        return False

    def refuse(self, request: Request, refusal: RefusedError) -> None:
        if request.path == SIGN_IN:  # RFC 6749, section 5.2
            told = {"error": refusal.code, "error_description": str(refusal)}
            self.say(refusal.status, told)
        else:
            super().refuse(request, refusal)

    def file(self, path: str, content: bytes) -> bool:
        missing = {"error_code": "NOT_FOUND", "message": f"{path} is not there"}
        if path.startswith(FILES[1]):
            found = self.played.listed("/" + path.removeprefix(FILES[1]))
            return self.say(200 if found else 404, found or missing)
        stored = self.played.stored(self.command, "/" + path.removeprefix(FILES[0]), content)
        if stored is None:
            return self.say(404, missing)
        self.send(204 if self.command == "PUT" else 200, stored, STORED)
        return True

    def location(self, request: Request) -> str:
        name = request.body["name"]
        if not name.startswith("/"):
            said = f"{name!r}: an experiment name must be an absolute path"
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", said)
        return f"dbfs:/databricks/mlflow-tracking/{len(self.played.requests)}"

    def rewritten(self, body: bytes) -> bytes:
        return body.replace(b"/models/m-", b"/logged_models/m-")


def workspace(server: str) -> AbstractContextManager[Workspace]:
    """Play a workspace in front of an MLflow server."""
    return listening(Workspace(server), OfWorkspace)
