"""The release manifest: which model, in which image, from which code. It travels, nothing else."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ConfigError

SHA256 = r"^[0-9a-f]{64}$"


class Model(BaseModel):
    """The version of the model that the service must answer with."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    version: str
    bundle_sha256: str = Field(pattern=SHA256, description="digest of what is served")


class Manifest(BaseModel):
    """What is released: built once, then only referred to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = Field(1, ge=1, le=1)
    release: str = Field(pattern=r"^r[0-9]{14}-[0-9a-f]{8}$", description="its name, unique")
    model: Model
    image: str = Field(pattern=r"^[^@\s]+@sha256:[0-9a-f]{64}$", description="by its digest")
    code: str = Field(pattern=r"^[0-9a-f]{40}$", description="the commit")

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def new(model: Model, image: str, code: str) -> Manifest:
    """Name a release of a model in an image; the name sorts by time."""
    moment = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    digest = image.partition("@sha256:")[2]
    name = f"r{moment}-{digest[:8]}"
    return Manifest(format=1, release=name, model=model, image=image, code=code)


def load(path: Path) -> Manifest:
    """Read a manifest.

    Raises
    ------
    ConfigError
        The file is missing, or is no manifest.
    """
    return _read(path, Manifest)


def load_model(path: Path) -> Model:
    """Read which version a bundle's version.json names; see `load` for what it raises."""
    return _read(path, Model)


KindT = TypeVar("KindT", bound=BaseModel)


def _read(path: Path, kind: type[KindT]) -> KindT:
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except json.JSONDecodeError:
        raise ConfigError(f"{path} is not JSON") from None
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise ConfigError(f"{path}: {key}: {problem['msg']}") from None
