"""Run Terraform on modules for Google, with the stand-in of google_provider.py as the provider."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import Render, once
from google_schema import extract, save

WHEEL = "cdktn-provider-google==21.1.0"
VERSION = "8.7.0"
PROVIDER = Path(__file__).with_name("google_provider.py")
Plan = dict[str, dict[str, Any]]
Plans = Callable[..., Plan]
Terraform = Callable[..., "subprocess.CompletedProcess[str]"]

NO_TERRAFORM = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="TERRAFORM IS NOT INSTALLED: nothing was planned"
)


def attributes(optional: dict[str, str], computed: dict[str, str]) -> dict[str, Any]:
    """Return the schema of an ephemeral resource, which PyPI has none of: this is documented."""
    given = {"computed": False, "optional": True, "required": False}
    found = {"computed": True, "optional": False, "required": False}
    return {
        "blocks": {},
        "attributes": {
            **{name: {"type": kind, **given} for name, kind in optional.items()},
            **{name: {"type": kind, **found} for name, kind in computed.items()},
        },
    }


SECRET = attributes(
    {
        "project": "string", "secret": "string", "version": "string",
        "is_secret_data_base64": "bool",
    },
    {
        "create_time": "string", "destroy_time": "string", "enabled": "bool", "name": "string",
        "secret_data": "string",
    },
)  # fmt: skip
PASSWORD = attributes(
    {
        "length": "number", "lower": "bool", "min_lower": "number", "min_numeric": "number",
        "min_special": "number", "min_upper": "number", "numeric": "bool",
        "override_special": "string", "special": "bool", "upper": "bool",
    },
    {"bcrypt_hash": "string", "result": "string"},
)  # fmt: skip
RANDOM = {
    "version": "3.7.2", "provider": attributes({}, {}), "resources": {}, "data": {},
    "ephemeral": {"random_password": PASSWORD},
}  # fmt: skip


def named(folders: Iterable[Path], kind: str) -> set[str]:
    text = "".join(path.read_text() for folder in folders for path in folder.glob("*.tf"))
    return set(re.findall(rf'(?m)^{kind} "(\w+)"', text))


def google_mirror(render: Render, shared: Path) -> Path:
    """Return a folder of providers in which google's, and random's, are the stand-in."""
    modules = [
        render(cloud="cloud-run") / "deploy" / "terraform",
        render(cloud="cloud-run", tracking="server") / "deploy" / "mlflow" / "terraform",
    ]

    def build(target: Path) -> None:
        target.mkdir()
        words = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(target), WHEEL]
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        wheel = next(target.glob("*.whl"))
        schema = extract(wheel, named(modules, "resource"), named(modules, "data"))
        assert schema["version"] == VERSION
        ephemeral = {"google_secret_manager_secret_version": SECRET}
        stand_in(target, "google", {**schema, "ephemeral": ephemeral})
        stand_in(target, "random", RANDOM)

    return once(shared / "providers", build)


def stand_in(mirror: Path, name: str, schema: dict[str, Any]) -> None:
    """Put the stand-in where Terraform looks for a provider, with what it says it knows."""
    version = schema["version"]
    where = mirror / f"registry.terraform.io/hashicorp/{name}/{version}/linux_amd64"
    where.mkdir(parents=True)
    save(schema, where / "schema.json")
    started = where / f"terraform-provider-{name}_v{version}"
    # Found from itself: the mirror is moved when it is complete, and linked to.
    started.write_text(
        "#!/bin/sh\n"
        'export PROVIDER_SCHEMA="$(dirname "$(readlink -f "$0")")/schema.json"\n'
        f"exec {sys.executable} {PROVIDER}\n"
    )
    started.chmod(0o755)


def initialise(folder: Path, mirror: Path) -> None:
    """Initialise a module, with its state beside it."""
    (folder / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    place = f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror}" }}\n}}\n'
    (folder / "terraform.rc").write_text(place)
    command(folder)("init", "-input=false", "-no-color")


def command(folder: Path, **given: str) -> Terraform:
    """Return a function that runs Terraform in a folder, with some of its variables given."""
    variables = {
        **os.environ,
        **{f"TF_VAR_{name}": value for name, value in given.items()},
        "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
        "TF_IN_AUTOMATION": "1",
    }

    def run(*words: str, check: bool = True, **more: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            ["terraform", *words], cwd=folder, env={**variables, **more},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def planner(run: Terraform) -> Plans:
    """Return a function from variables to what is planned for each resource, by address."""

    @cache
    def planned(**variables: str) -> Plan:
        given = {f"TF_VAR_{name}": value for name, value in variables.items()}
        run("plan", "-input=false", "-out=plan.bin", **given)
        root = json.loads(run("show", "-json", "plan.bin").stdout)["planned_values"]
        return {each["address"]: each["values"] for each in root["root_module"]["resources"]}

    return planned


def as_api(value: Any, message: Any) -> Any:
    """Turn Terraform's values into the API's: a block that comes once is no list there."""
    fields = {field.name: field for field in message.fields}
    result = {}
    for name, each in value.items():
        if each in (None, [], {}, ""):
            continue
        field = fields.get(name)
        if field is None or field.message_type is None or is_map(field):
            result[name] = each
        elif isinstance(each, list):
            inner = [as_api(item, field.message_type) for item in each]
            result[name] = inner if field.label == field.LABEL_REPEATED else inner[0]
        else:
            result[name] = each
    return result


def is_map(field: Any) -> bool:
    return bool(field.message_type.GetOptions().map_entry)
