"""Configuration, overrides and the environment: a mistake is one line that names the culprit."""

import re
import subprocess
import sys

import pytest

from .. import config, run_pipeline, settings
from ..model import ModelConfig
from ..settings import PACKAGE, ROOT, Settings
from .conftest import Message, Project

PARAMETER = next(iter(ModelConfig.model_fields))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("data", "pth: x", "configs/data.yaml"),
        ("data", "trian_until: 2013-01-01", "unknown key 'trian_until'; the keys are path"),
        ("data", "train_until: tomorrow", "train_until='tomorrow'"),
        ("data", "train_until: 90", "train_until=90: Value error, give a day, such as"),
        ("data", "train_until: -60\nvalidation_until: -90", "(-60) must be before validation"),
        ("data", "train_until: 2999-01-01", "must be before validation_until"),
        ("model", f"{PARAMETER}: []", f"{PARAMETER}=[]"),
        ("model", "sede: 1", "unknown key 'sede'"),
        ("model", "{[", "model.yaml is not valid YAML"),
    ],
)
def test_a_wrong_line_in_a_file_is_named(
    project: Project, message: Message, name: str, text: str, expected: str
) -> None:
    with (project.folder / f"configs/{name}.yaml").open("a") as file:
        file.write(f"{text}\n")
    assert expected in message(lambda: run_pipeline.main([]))


def test_a_key_that_is_left_out_is_named(project: Project, message: Message) -> None:
    (project.folder / "configs/data.yaml").write_text("path: data.csv\ntrain_until: 2013-01-01\n")
    assert "validation_until is missing" in message(lambda: run_pipeline.main([]))


@pytest.mark.parametrize("content", ["", "- a list\n"])
def test_a_file_that_is_no_mapping_is_refused(
    project: Project, message: Message, content: str
) -> None:
    (project.folder / "configs/model.yaml").write_text(content)
    assert "model.yaml must be a mapping" in message(lambda: run_pipeline.main([]))


def test_a_file_that_is_gone_is_named(project: Project, message: Message) -> None:
    (project.folder / "configs/model.yaml").unlink()
    assert "model.yaml does not exist" in message(lambda: run_pipeline.main([]))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("path=1", "write it as section.key=value"),
        ("data.path", "write it as section.key=value"),
        ("data.path=[", "is not a YAML value"),
        ("gates.holdout=1", "the sections are data and model"),
        ("model.sede=1", "unknown key 'sede'"),
        (f"model.{PARAMETER}=[]", f"{PARAMETER}=[]"),
        ("data.path.deep=1", "'path' is a value, not a group of keys"),
        ("data.path=nowhere.parquet", "nowhere.parquet does not exist"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_wrong_override_is_named(message: Message, override: str, expected: str) -> None:
    assert expected in message(lambda: run_pipeline.main(["--set", override]))


@pytest.mark.usefixtures("project")
def test_an_override_wins_over_the_file() -> None:
    loaded = config.load("data", config.DataConfig, ["data.path=other.csv", "model.seed=3"])
    assert str(loaded.path) == "other.csv"


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "abc"), ("PORT", "70000"), ("MAX_INSTANCES", "0")]
)
@pytest.mark.usefixtures("project")
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, message: Message, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert f"{name}={value!r} in the environment" in message(settings.load)


def test_the_example_of_an_environment_lists_every_setting_with_its_default() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^#? ?([A-Z][A-Z_]*)=(.*)$", text, re.MULTILINE))
    # What depends on where the project is, or is nothing, is left empty.
    defaults = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    shown = {k: "" if v is None or str(ROOT) in str(v) else str(v) for k, v in defaults.items()}
    assert listed == shown
    assert len(re.findall(r"^# [^=\n]+\n#? ?[A-Z][A-Z_]*=", text, re.MULTILINE)) == len(shown)


def test_a_mistake_found_while_modules_load_is_one_line() -> None:
    raising = f"from {PACKAGE}.errors import ConfigError; raise ConfigError('mend schema.py')"
    child = subprocess.run(
        [sys.executable, "-c", raising], capture_output=True, text=True, check=False
    )
    assert (child.returncode, child.stderr) == (1, "error: mend schema.py\n")


@pytest.mark.usefixtures("project")
def test_an_unknown_stage_or_order_is_refused(message: Message) -> None:
    assert "--from train comes after --to ingest" in message(
        lambda: run_pipeline.main(["--from", "train", "--to", "ingest"])
    )
    with pytest.raises(SystemExit) as stopped:
        run_pipeline.main(["deploy"])
    assert stopped.value.code == 2
