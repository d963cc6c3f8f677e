"""Run Terraform, with the real provider, and aws against moto."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from registries import free_port

MIRROR = "registry.terraform.io/hashicorp/aws"
SERVER = Path(__file__).with_name("aws_server.py")
AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",  # what the first version of aws reads
}
Terraform = Callable[..., "subprocess.CompletedProcess[str]"]


def find_mirror() -> Path | None:
    """Return a folder that holds the real provider, which no test downloads.

    TF_PLUGIN_MIRROR names it; otherwise the places where systems put such folders are searched.
    """
    named = os.environ.get("TF_PLUGIN_MIRROR")
    places = (
        [Path(named)] if named else [*Path("/").glob("opt/*"), *Path("/").glob("usr/share/*/*")]
    )
    return next((place for place in places if (place / MIRROR).is_dir()), None)


NO_TERRAFORM = pytest.mark.skipif(
    shutil.which("terraform") is None or find_mirror() is None,
    reason="NO TERRAFORM, OR NO AWS PROVIDER IN TF_PLUGIN_MIRROR: nothing was applied",
)


def initialise(folder: Path) -> None:
    """Initialise a module, with its state beside it."""
    (folder / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    (folder / "terraform.rc").write_text(
        f'provider_installation {{\n  filesystem_mirror {{ path = "{find_mirror()}" }}\n}}\n'
    )
    command(folder, {})("init", "-input=false")


def ask_moto(folder: Path) -> None:
    """Make a module's provider fit for moto, by its own endpoint seam."""
    (folder / "moto_override.tf").write_text(
        'provider "aws" {\n'
        "  skip_credentials_validation = true\n"
        "  skip_region_validation      = true\n"
        "  s3_use_path_style           = true\n"
        "  max_retries                 = 1\n"
        "}\n"
    )


def command(folder: Path, given: Mapping[str, str], **more: str) -> Terraform:
    """Return a function that runs Terraform in a folder, with some of its variables given."""
    variables = {
        **os.environ, **AWS, **more,
        **{f"TF_VAR_{name}": value for name, value in given.items()},
        "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
        "TF_IN_AUTOMATION": "1",
    }  # fmt: skip

    def run(*words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            ["terraform", *words, *([] if words[0] == "fmt" else ["-no-color"])],
            cwd=folder, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@contextmanager
def moto() -> Iterator[str]:
    """Run moto, with what it lacks, and give its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, SERVER, str(port)],
        env={**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()  # noqa: S310
                break
            except OSError:
                assert time.monotonic() < deadline, "moto did not start"
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def aws_cli(address: str) -> Callable[..., Any]:
    """Return a function that runs aws against moto."""

    def run(*words: str) -> Any:
        done = subprocess.run(
            [Path(sys.executable).with_name("aws"), *words, "--output=json"],
            env={**os.environ, **AWS, "AWS_ENDPOINT_URL": address},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout or "null")

    return run


def statements(state: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the statements of all policies of roles, with the address of each."""
    found = []
    for resource in state["values"]["root_module"]["resources"]:
        if resource["type"] == "aws_iam_role_policy":
            policy = json.loads(resource["values"]["policy"])
            found += [(resource["address"], each) for each in listed(policy["Statement"])]
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
