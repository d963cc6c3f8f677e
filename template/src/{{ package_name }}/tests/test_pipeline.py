"""The pipeline over real rows: what it skips, what it records, and how it ends when it fails."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from .. import config, digests, frames, hooks, pipeline, preprocess, run_pipeline, stages, tracking
from ..contract import TARGET
from ..errors import INTERRUPTED, TERMINATED, ConfigError, terminate
from ..model import ModelConfig
from ..schema import TIME
from ..settings import PACKAGE
from .conftest import Message, Project


def stale(line: pipeline.Pipeline) -> list[str]:
    """Name the stages that would run."""
    first, *_, last = pipeline.NAMES
    planned = stages.plan(line.stages(), line.root, first=first, last=last, force=False)
    return [stage.name for stage, _, must_run in planned if must_run]


def runs(project: Project) -> dict[str, str]:
    """Return each run's status."""
    experiment = project.client.get_experiment_by_name(project.settings.mlflow_experiment_name)
    assert experiment is not None
    found = project.client.search_runs([experiment.experiment_id])
    return {run.info.run_id: run.info.status for run in found}


def hidden(project: Project) -> list[str]:
    """Name what a run has left in the outputs that is neither an output nor the lock."""
    known = {".lock", "checkpoints", *pipeline.NAMES}
    return [path.name for path in project.outputs.iterdir() if path.name not in known]


def test_a_second_run_skips_everything(
    trained: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before = trained.version()
    assert run_pipeline.main([]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("unchanged") == len(pipeline.NAMES)
    assert f"version {before['version']}" in printed.out
    assert printed.err == ""
    assert trained.version() == before


def test_a_changed_hyperparameter_reruns_from_training(trained: Project) -> None:
    line = trained.pipeline()
    line.model = line.model.model_copy(update={next(iter(ModelConfig.model_fields)): 4711})
    assert stale(line) == ["train", "evaluate", "register"]


def test_a_changed_date_reruns_from_the_splits(trained: Project) -> None:
    assert stale(trained.pipeline("data.train_until=1700-01-01")) == list(pipeline.NAMES[1:])


def test_days_counted_back_move_with_the_data(trained: Project) -> None:
    line, week = trained.pipeline(), timedelta(days=7)
    rows = pd.read_parquet(line.root / "ingest/rows.parquet")
    days, last = line.dated.model_dump(exclude={"path"}), rows[TIME].max().date()
    back = trained.pipeline(*(f"data.{name}={(day - last).days}" for name, day in days.items()))
    assert back.dated == line.dated
    later = back.data.dated(last + week).model_dump(exclude={"path"})
    assert later == {name: day + week for name, day in days.items()}
    parts = [len(part) for part in preprocess.split(rows, back.data)]
    assert parts == [len(line.split(name)) for name in pipeline.SPLITS]
    with pytest.raises(ConfigError, match=r"train_until \(.*\) must be before validation_until"):
        trained.pipeline("data.train_until=-1", "data.validation_until=1700-01-01").dated  # noqa: B018


def test_changed_data_reruns_everything(project: Project) -> None:
    project.raw.write_bytes(project.raw.read_bytes() + b"\n")
    assert stale(project.pipeline()) == list(pipeline.NAMES)


@pytest.mark.parametrize("setting", ["mlflow_experiment_name", "model_name"])
def test_another_place_to_record_reruns_registration_alone(trained: Project, setting: str) -> None:
    line = trained.pipeline()
    line.settings = trained.settings.model_copy(update={setting: "another"})
    assert stale(line) == ["register"]


def test_a_version_that_the_store_lost_is_registered_again(
    trained: Project, tmp_path: Path
) -> None:
    lost = {**trained.version(), "version": "999"}
    (tmp_path / "version.json").write_text(json.dumps(lost))
    assert not trained.pipeline().still_registered(tmp_path)


def test_validation_is_repeated_when_the_schema_changes(trained: Project) -> None:
    ingest = trained.pipeline().stages()[0]
    names = {path.name for path in stages.source_files(ingest.modules)}
    assert {"data.py", "schema.py", "contract.py", "frames.py"} <= names


def test_each_stage_that_ran_is_followed_by_the_hook(project: Project) -> None:
    followed: list[tuple[str, Path]] = []
    project.patch.setattr(hooks, "after_stage", lambda *given: followed.append(given))
    assert run_pipeline.main(["--from", "evaluate", "--to", "evaluate"]) == 0
    assert followed == []
    assert run_pipeline.main(["--from", "evaluate", "--to", "evaluate", "--force"]) == 0
    assert followed == [("evaluate", project.outputs / "evaluate")]


def test_the_same_seed_and_data_give_the_same_metrics(project: Project) -> None:
    before, version = project.pipeline().metrics(), project.version()["version"]
    assert run_pipeline.main(["--force"]) == 0
    assert project.pipeline().metrics() == before
    assert int(project.version()["version"]) == int(version) + 1


def test_a_run_records_its_parameters_metrics_and_provenance(trained: Project) -> None:
    line, run = trained.pipeline(), trained.client.get_run(trained.version()["run_id"])
    assert run.info.status == "FINISHED"
    expected = {f"model.{k}": str(v) for k, v in line.model.model_dump(mode="json").items()}
    assert expected.items() <= run.data.params.items()
    assert run.data.params["data.train_until"] == str(line.dated.train_until)
    metrics = pipeline.flatten(line.metrics())
    assert {name.split("/")[0] for name in metrics} == {*pipeline.SPLITS, "by_month"}
    assert metrics == pytest.approx({k: run.data.metrics[k] for k in metrics}, nan_ok=True)
    tags = run.data.tags
    assert len(tags["git.sha"]) == 40
    assert tags["git.dirty"] == "true"
    assert tags["lock.sha256"] == digests.file_digest(trained.folder / "uv.lock")
    assert tags["data.sha256"] == digests.file_digest(trained.raw)
    assert tags["version.mlflow"] == mlflow.__version__
    assert tags["version.python"].startswith("3.")


def test_a_run_records_its_data_training_and_plots(trained: Project) -> None:
    run = trained.client.get_run(trained.version()["run_id"])
    assert run.inputs is not None
    inputs = {i.tags[0].value: i.dataset for i in run.inputs.dataset_inputs}
    assert set(inputs) == set(pipeline.SPLITS)
    assert all(dataset.digest for dataset in inputs.values())
    history = json.loads((trained.outputs / "train/history.json").read_text())
    for name in {name for row in history for name in row} - {"step"}:
        logged = trained.client.get_metric_history(run.info.run_id, name)
        assert {p.step: p.value for p in logged} == {r["step"]: r[name] for r in history}
    drawn = {f"plots/{path.name}" for path in (trained.outputs / "evaluate").glob("*.png")}
    listed = {f.path for f in trained.client.list_artifacts(run.info.run_id, "plots")}
    assert listed == drawn


def test_a_version_carries_its_signature_and_pinned_requirements(trained: Project) -> None:
    name, number = trained.settings.model_name, trained.version()["version"]
    mlflow.set_tracking_uri(trained.settings.mlflow_tracking_uri)
    info = mlflow.models.get_model_info(f"models:/{name}/{number}")
    assert info.signature == frames.signature()
    folder = mlflow.artifacts.download_artifacts(f"models:/{name}/{number}/requirements.txt")
    lines = Path(folder).read_text().split()
    assert any(line.startswith("mlflow==") for line in lines)
    assert all("==" in line for line in lines)


def changed(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    """Return what changes the rows that are loaded."""
    return lambda path: change(pd.read_parquet(path)).to_parquet(path)


def damage(path: Path) -> None:
    """Cut a file short, in the middle of a character."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff")


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (Path.unlink, "does not exist; set `path` in configs/data.yaml"),
        (damage, "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (changed(lambda rows: rows.head(0)), "has no rows"),
        (changed(lambda rows: rows.drop(columns=TARGET.name)), f"has no column '{TARGET.name}'"),
        (changed(lambda rows: rows.assign(**{TARGET.name: "text"})), f"column '{TARGET.name}'"),
        (
            changed(lambda rows: rows.head(7).assign(**{TARGET.name: np.inf})),
            f"column '{TARGET.name}': 7 value(s) break the rule",
        ),
    ],
    ids=["missing", "truncated", "empty", "no rows", "no column", "wrong type", "out of range"],
)
def test_bad_data_is_one_line_and_leaves_the_old_outputs(
    project: Project, message: Message, harm: Callable[[Path], Any], expected: str
) -> None:
    before = digests.tree_digest(project.outputs / "ingest")
    harm(project.raw)
    assert expected in message(lambda: run_pipeline.main([]))
    assert digests.tree_digest(project.outputs / "ingest") == before
    assert hidden(project) == []
    assert "RUNNING" not in runs(project).values()


@pytest.mark.parametrize(
    ("column", "expected"),
    [("x", r"has no column 'x', which data\.py:\d+ uses"), ([], r"cannot be .*\(data\.py:\d+\)")],
)
def test_what_data_py_cannot_do_is_one_line_with_its_place(
    project: Project, message: Message, column: object, expected: str
) -> None:
    empty: dict[object, Any] = {}
    project.patch.setattr(f"{PACKAGE}.data.__file__", __file__)
    project.patch.setattr(f"{PACKAGE}.data.load", lambda _: empty[column])
    told = message(lambda: run_pipeline.main(["ingest", "--force"]))
    assert re.search(f"{project.pipeline().data.path} {expected}$", told)


def test_dates_that_leave_a_split_empty_are_named(project: Project, message: Message) -> None:
    wrong = "data.validation_until=2999-12-31"
    assert "the holdout split has no rows" in message(lambda: run_pipeline.main(["--set", wrong]))
    assert hidden(project) == []
    assert "FAILED" in runs(project).values()


def test_what_registers_nothing_needs_no_store(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert run_pipeline.main(["--to", "preprocess", "--force"]) == 0
    assert f"Outputs {project.outputs / 'preprocess'}" in capsys.readouterr().out


HANGING = """
import signal, sys, time
from pathlib import Path
from {package} import config, errors, pipeline, run_pipeline, tracking
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background ignores
config.ROOT = pipeline.ROOT = tracking.ROOT = Path({root!r})
def hang(*_):
    print("training", flush=True)
    time.sleep(60)
pipeline.train.train = hang
errors.run_command(lambda _: run_pipeline.main(["--from", "train", "--force"]))
"""


@contextmanager
def hanging(project: Project) -> Iterator[subprocess.Popen[str]]:
    """Start a run in a process of its own; give it once it trains, which it does for ever."""
    code = HANGING.format(package=PACKAGE, root=str(project.folder))
    with project.python("-c", code) as child:
        assert child.stdout is not None
        assert any(line == "training\n" for line in child.stdout)
        yield child


@pytest.mark.parametrize(
    ("sign", "told"),
    [(signal.SIGTERM, (TERMINATED, "")), (signal.SIGINT, (INTERRUPTED, "interrupted\n"))],
)
def test_a_stopped_run_is_closed_and_keeps_others_out_until_then(
    project: Project, message: Message, sign: signal.Signals, told: tuple[int, str]
) -> None:
    before = digests.tree_digest(project.outputs / "train")
    with hanging(project) as child:
        assert f"another run (process {child.pid})" in message(lambda: run_pipeline.main([]))
        child.send_signal(sign)
        if sign == signal.SIGTERM:
            child.terminate()
        _, errors = child.communicate(timeout=180)
    assert (child.returncode, errors) == told
    assert sorted(runs(project).values()) == ["FAILED", "FINISHED"]
    assert digests.tree_digest(project.outputs / "train") == before
    assert hidden(project) == []


def test_a_killed_run_is_closed_by_the_sweeper_and_no_other(
    project: Project, message: Message
) -> None:
    with hanging(project) as child:
        assert "another run" in message(lambda: run_pipeline.main(["--sweep"]))
        child.kill()
    experiment = project.client.get_experiment_by_name(project.settings.mlflow_experiment_name)
    assert experiment is not None
    elsewhere = {tracking.STARTED_BY: "another machine:/project"}
    project.client.create_run(experiment.experiment_id, tags=elsewhere)
    assert run_pipeline.main(["--sweep"]) == 0
    assert sorted(runs(project).values()) == ["FINISHED", "KILLED", "RUNNING"]
    assert run_pipeline.main(["--sweep", "0"]) == 0
    assert sorted(runs(project).values()) == ["FINISHED", "KILLED", "KILLED"]


def test_a_second_signal_does_not_interrupt_the_clean_up() -> None:
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_command_prints_one_line_and_no_traceback(trained: Project) -> None:
    code = f"from {PACKAGE}.run_pipeline import command; command()"
    with trained.python("-c", code, "--set", "model.sede=1") as child:
        printed, errors = child.communicate(timeout=180)
    assert (child.returncode, printed) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("error: configs/model.yaml: unknown key 'sede'")


def test_each_stage_file_can_be_asked_for_alone(project: Project) -> None:
    for name in pipeline.NAMES:
        assert run_pipeline.main([name]) == 0
    assert config.load("data", config.DataConfig) == project.pipeline().data


def test_a_folder_may_be_the_data(project: Project) -> None:
    """What data.py makes of it is its own matter."""
    file = project.raw.with_name("rows")
    project.raw.rename(file)
    project.raw.mkdir()
    file.rename(project.raw / project.raw.name)
    project.patch.setattr(f"{PACKAGE}.data.load", lambda at: pd.read_parquet(at / at.name))
    assert run_pipeline.main([]) == 0
    assert stale(project.pipeline()) == []
    (project.raw / "more").touch()
    assert stale(project.pipeline()) == list(pipeline.NAMES)
