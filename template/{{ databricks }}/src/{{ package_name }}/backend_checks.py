"""What Databricks needs before it records runs and models: variables, a login, privileges."""

from collections.abc import Callable
from functools import cache

from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, ResourceDoesNotExist
from databricks.sdk.errors.base import DatabricksError

from . import backend
from .errors import RegistryError
from .settings import Settings

Check = tuple[str, Callable[[Settings], str | None]]
LEVELS = 3
NEEDED = {
    "catalog": ["USE_CATALOG"],
    "schema": ["USE_SCHEMA", "CREATE_MODEL", "APPLY_TAG", "EXECUTE"],
}
ALL = "ALL_PRIVILEGES"


def checks(settings: Settings) -> list[Check]:
    """Return what to look at, and how to find a fix; none is that it is right."""
    found: list[Check] = [
        ("runs go to the workspace: MLFLOW_TRACKING_URI", _tracking_uri),
        ("models go to Unity Catalog: MLFLOW_REGISTRY_URI", _registry_uri),
        ("the experiment is named by a path: MLFLOW_EXPERIMENT_NAME", _experiment),
        ("the model is named by three levels: MODEL_NAME", _model),
    ]
    if not all(find(settings) is None for _, find in found):
        return found
    return [
        *found,
        ("the login is accepted", _login),
        ("the experiment's folder is there", _folder),
        ("the schema is there", _schema),
        ("models may be created, tagged and read in it", _privileges),
    ]


def _tracking_uri(settings: Settings) -> str | None:
    right = settings.mlflow_tracking_uri.partition("://")[0] == "databricks"
    return None if right else "export MLFLOW_TRACKING_URI=databricks"


def _registry_uri(settings: Settings) -> str | None:
    right = (settings.mlflow_registry_uri or "").partition("://")[0] == "databricks-uc"
    return None if right else "export MLFLOW_REGISTRY_URI=databricks-uc"


def _experiment(settings: Settings) -> str | None:
    name = settings.mlflow_experiment_name
    right = name.startswith("/") and name.count("/") > 1
    return None if right else f"export MLFLOW_EXPERIMENT_NAME=/Shared/{settings.model_name}/runs"


def _model(settings: Settings) -> str | None:
    name = settings.model_name
    right = len([level for level in name.split(".") if level]) == LEVELS
    return None if right else f"export MODEL_NAME=CATALOG.SCHEMA.{name.rpartition('.')[2]}"


@cache
def _workspace(uri: str) -> WorkspaceClient:
    backend.prepare(uri, 0)
    profile = uri.partition("://")[2]
    return WorkspaceClient(profile=profile) if profile else WorkspaceClient()


def _me(settings: Settings) -> str:
    try:
        return str(_workspace(settings.mlflow_tracking_uri).current_user.me().user_name)
    except DatabricksError as error:
        raise RegistryError(f"{error}; sign in as docs/databricks.md says") from None


def _login(settings: Settings) -> None:
    _me(settings)


def _folder(settings: Settings) -> str | None:
    folder = settings.mlflow_experiment_name.rpartition("/")[0]
    try:
        _workspace(settings.mlflow_tracking_uri).workspace.get_status(folder)
    except (NotFound, ResourceDoesNotExist):
        return f"databricks workspace mkdirs {folder}"
    except DatabricksError as error:
        raise RegistryError(str(error)) from None
    return None


def _schema(settings: Settings) -> str | None:
    schema = settings.model_name.rpartition(".")[0]
    try:
        _workspace(settings.mlflow_tracking_uri).schemas.get(schema)
    except DatabricksError as error:
        return f"{error}; CREATE SCHEMA {schema}, or name another in MODEL_NAME"
    return None


def _privileges(settings: Settings) -> str | None:
    """Return what somebody who may grants to whoever is signed in."""
    me, schema = _me(settings), settings.model_name.rpartition(".")[0]
    places = {"catalog": schema.partition(".")[0], "schema": schema}
    grants = _workspace(settings.mlflow_tracking_uri).grants
    wanted = []
    for kind, place in places.items():
        try:
            told = grants.get_effective(kind, place, principal=me)
        except DatabricksError as error:
            raise RegistryError(f"the privileges on {place} cannot be read: {error}") from None
        held = {
            privilege.privilege.value
            for assignment in told.privilege_assignments or []
            for privilege in assignment.privileges or []
            if privilege.privilege
        }
        wanted += [
            f"GRANT {name.replace('_', ' ')} ON {kind.upper()} {place} TO `{me}`;"
            for name in NEEDED[kind]
            if not held & {name, ALL}
        ]
    return " ".join(wanted) or None
