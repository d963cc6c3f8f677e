"""Settings of the environment: where things are and which model to use. .env.example lists them."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import ConfigError

PACKAGE = Path(__file__).parent.name


CHECKOUT = Path(__file__).parents[2]
# The project's folder: the one above src/, or the working directory once installed.
ROOT = CHECKOUT if (CHECKOUT / "pyproject.toml").is_file() else Path.cwd()


def given(secret: SecretStr) -> SecretStr:
    """Refuse the word that stands for a secret until it has a value: anybody would guess it."""
    if secret.get_secret_value() == "unset":
        raise ValueError("the secret was never given a value; give it one, then start again")
    return secret


Secret = Annotated[SecretStr, AfterValidator(given)]


class Settings(BaseSettings):
    """Environment variables, or the same names in a .env file; the environment wins."""

    model_config = SettingsConfigDict(
        env_file=ROOT / ".env", extra="ignore", env_ignore_empty=True, protected_namespaces=()
    )

    mlflow_tracking_uri: str = Field(
        f"sqlite:///{ROOT / 'mlflow.db'}", description="where runs are recorded"
    )
    mlflow_registry_uri: str | None = Field(
        None, description="where model versions are recorded, if not with the runs"
    )
    mlflow_experiment_name: str = Field(PACKAGE, description="the experiment that holds the runs")
    model_name: str = Field(PACKAGE, description="the registered model's name")
    model_stage: str = Field("production", description="the alias that the service resolves")
    host: str = Field("127.0.0.1", description="the address the service listens on")
    port: int = Field(8080, ge=1, le=65535, description="the port the service listens on")
    max_body_bytes: int = Field(1_048_576, ge=1, description="the largest request body accepted")
    max_instances: int = Field(1000, ge=1, description="the most instances in one request")
    prediction_log: str = Field("", description="a folder, or - for standard output; empty is off")
    prediction_log_sample: float = Field(
        1.0, ge=0, le=1, description="the fraction of requests whose predictions are logged"
    )
    max_waiting: int = Field(256, ge=1, description="the most requests answered at once")
    request_seconds: float = Field(10.0, gt=0, description="how long a request may await its turn")
    model_bundle: Path | None = Field(None, description="what `make bundle` made, for no registry")
    reload_seconds: float = Field(30.0, ge=0, description="how often to look anew; 0 is never")
    workers: int = Field(1, ge=1, le=64, description="how many processes answer")
    api_keys: Secret | None = Field(
        None, description="keys, separated by commas, of which predictions ask for one"
    )
    webhook_secret: Secret | None = Field(
        None, description="the secret of the registry's webhook to /hooks/registry"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least the service logs; requests are info"
    )
    prediction_labels: str = Field("", description="a file, or its address: what really happened")
    monitor_delay_days: int = Field(0, ge=0, description="days until a window's labels are there")
    monitor_requests: bool = Field(False, description="whether monitoring asks without --request")
    retrain_webhook: str = Field("", description="where monitoring asks for a retraining")
    retrain_secret: Secret | None = Field(None, description="signs what the webhook is sent")
    github_repository: str = Field("", description="OWNER/NAME, asked where there is no webhook")
    github_token: Secret | None = Field(None, description="may dispatch and open issues there")
    github_api_url: str = Field("https://api.github.com", description="another GitHub's address")

    def keys(self) -> tuple[str, ...]:
        """Return the API keys."""
        given = self.api_keys.get_secret_value() if self.api_keys else ""
        return tuple(key.strip() for key in given.split(",") if key.strip())


def shown(uri: str) -> str:
    """Return an address without the password it may hold."""
    return re.sub(r"//[^/?#]*@", "//", uri)


def load() -> Settings:
    """Read the settings.

    Raises
    ------
    ConfigError
        A variable has a value of the wrong kind.
    """
    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]).upper()
        raise ConfigError(
            f"{name}={problem['input']!r} in the environment: {problem['msg']}"
        ) from None
