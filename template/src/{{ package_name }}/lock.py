"""One promotion at a time: a lock kept in the registry itself.

Registries have no compare-and-swap for aliases, but creating a registered model is atomic in all
of them, so a model named `<name>_lock` is the lock. A killed process leaves it held; it is never
taken over in silence, only broken by `break-lock`, which also finishes or closes what was begun.
"""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from . import registry
from .creation import once
from .errors import ConflictError, RegistryError, first_line

TAKEN = "RESOURCE_ALREADY_EXISTS"


@dataclass
class Guard:
    """A held lock; once `begun` is set, only completion releases it."""

    token: str
    begun: bool = False


def lock_name(name: str) -> str:
    """Return the name of the registered model that locks another."""
    return f"{name}_lock"


def holder(client: MlflowClient, name: str) -> dict[str, str] | None:
    """Return who holds the lock and since when, or None if nobody does."""
    found = registry.model(client, lock_name(name))
    return {str(key): str(value) for key, value in found.tags.items()} if found else None


@contextlib.contextmanager
def held(client: MlflowClient, name: str, owner: dict[str, str]) -> Iterator[Guard]:
    """Hold the lock.

    Raises
    ------
    ConflictError
        Somebody else holds it.
    RegistryError
        Something failed after the change had begun, so the lock stays for `break-lock`.
    """
    guard = Guard(uuid.uuid4().hex)
    tags = {**owner, "token": guard.token}

    def mine() -> dict[str, str] | None:
        found = holder(client, name)
        return found if found and found.get("token") == guard.token else None

    try:
        once(lambda: dict(client.create_registered_model(lock_name(name), tags).tags), mine)
    except MlflowException as error:
        if error.error_code != TAKEN:
            raise
        if mine() is None:  # a slow server may have answered the attempt before the last
            said = describe(holder(client, name) or {})
            raise ConflictError(
                f"{said}; wait for it, or, if that process is gone, see `promote_model status` and "
                "run `promote_model break-lock`"
            ) from None
    try:
        yield guard
    except BaseException as error:
        if guard.begun and isinstance(error, Exception):
            raise RegistryError(
                f"the change began but did not complete ({first_line(error)}); "
                "run `promote_model break-lock` once the registry answers again"
            ) from error
        if not guard.begun:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                release(client, name)
        raise
    release(client, name)


def describe(tags: dict[str, str]) -> str:
    """Say who holds the lock."""
    since = f" since {tags['since']}" if "since" in tags else ""
    return f"the registry lock is held by {tags.get('actor', 'somebody')}{since}"


def confirm(client: MlflowClient, name: str, guard: Guard) -> None:
    """Check, right before the alias is written, that nobody broke the lock meanwhile."""
    if (holder(client, name) or {}).get("token") != guard.token:
        raise ConflictError("the registry lock was broken by somebody else; look at `status`")


def release(client: MlflowClient, name: str) -> None:
    """Free the lock."""
    client.delete_registered_model(lock_name(name))
