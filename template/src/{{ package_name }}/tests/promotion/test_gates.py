from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.types import ColSpec

from ... import bundle, config, evaluate, gates, model_format, registry
from ...config import GatesConfig
from ...contract import FEATURE_NAMES
from ...digests import tree_digest
from ...errors import ConfigError, ConflictError, GateError, RegistryError
from ...export import export
from ...frames import signature
from .conftest import EVERY, NONE, World, bound


def refused(world: World, *words: str) -> str:
    """Return why production is refused, having checked that nothing moved."""
    before = world.stages()
    with pytest.raises(GateError) as refusal:
        world.command("promote", "--to", "production", *words)
    assert world.stages() == before
    latest = world.command("history")["events"][0]
    assert (latest["outcome"], latest["stage"]) == ("refused", "production")
    return str(refusal.value)


def staged(world: World, number: str | None = None) -> str:
    number = number or world.register()
    world.command("promote", "--to", "staging", "--version", number)
    return number


def test_the_first_good_version_reaches_production_without_a_champion(world: World) -> None:
    number = world.in_production()
    assert world.stages() == {"staging": number, "production": number}


def test_a_worse_model_is_refused_before_staging(world: World) -> None:
    world.register(world.models.bad)
    with pytest.raises(GateError, match=r"at (most|least)"):
        world.command("promote", "--to", "staging")
    assert world.stages() == {}


def test_an_equal_model_does_not_replace_the_champion(world: World) -> None:
    champion = world.in_production()
    staged(world)
    assert f"keep version {champion}" in refused(world)


def test_a_better_model_replaces_the_champion(world: World) -> None:
    world.write_gates(holdout=bound(world.models, EVERY))
    worse = world.in_production(world.register(world.models.bad))
    better = staged(world)
    result = world.command("promote", "--to", "production")
    assert (result["previous"], result["version"]) == (worse, better)


def test_a_version_skips_no_stage(world: World) -> None:
    number = world.register()
    with pytest.raises(GateError, match="not in staging"):
        world.command("promote", "--to", "production", "--version", number)


def test_a_metric_that_nothing_measures_blocks(world: World) -> None:
    staged(world)
    world.write_gates(holdout={"no_such_metric": {"min": 0.0}})
    assert "no_such_metric: not measured" in refused(world)


def test_a_metric_that_is_not_a_number_blocks(world: World) -> None:
    staged(world)
    honest = evaluate.score
    world.patch.setattr(evaluate, "score", lambda t, p: dict.fromkeys(honest(t, p), float("nan")))
    assert "nan" in refused(world)


def test_predictions_that_are_not_numbers_block(world: World) -> None:
    staged(world)
    world.patch.setattr(gates, "predict", lambda _, rows: np.full(len(rows), np.nan))
    assert "predictions are not numbers" in refused(world)


def bound_slices(world: World, column: str | None = None, *, min_rows: int = 1) -> str:
    """Bound each value of a column, by default that of the fewest, as no model does; name it."""
    values = pd.read_parquet(world.models.holdout)[FEATURE_NAMES].nunique()
    column = column or str(values[values > 0].idxmin())
    bounds = bound(world.models, NONE)
    world.write_gates(slices={"columns": [column], "min_rows": min_rows, "bounds": bounds})
    return f"{next(iter(bounds))} of {column}="


def test_a_bad_slice_blocks_though_the_average_is_good(world: World) -> None:
    staged(world)
    assert bound_slices(world) in refused(world)


def test_small_slices_are_reported_and_not_judged(world: World) -> None:
    world.register()
    bound_slices(world, min_rows=10**6)
    found = world.command("evaluate")
    assert found["passed"]
    assert found["slices"]
    assert not any(part["judged"] for part in found["slices"])


def test_a_slice_unknown_to_the_schema_is_a_mistake_in_the_configuration(world: World) -> None:
    world.register()
    bound_slices(world, "colour")
    with pytest.raises(ConfigError, match=r"configs/gates\.yaml: slices\.columns names 'colour'"):
        world.command("promote", "--to", "staging")
    assert world.stages() == {}


def test_a_version_over_its_budgets_is_refused(world: World) -> None:
    staged(world)
    world.write_gates(budgets={"latency_ms": 1e-6, "size_mb": 1e-6})
    reason = refused(world)
    assert "latency" in reason
    assert "size" in reason


def test_another_holdout_than_the_frozen_one_is_refused(world: World) -> None:
    world.in_production()
    rows = pd.read_parquet(world.models.holdout)
    rows.iloc[1:].to_parquet(world.root / "holdout.parquet", index=False)
    world.register_own(world.root / "holdout.parquet")
    with pytest.raises(GateError, match="--new-holdout"):
        world.command("promote", "--to", "staging")
    moved = world.command("promote", "--to", "staging", "--new-holdout")
    assert moved["moved"]
    reason = refused(world)
    assert "improvement" in reason
    assert "--new-holdout" not in reason  # the rows were frozen with the move to staging


def test_a_holdout_that_was_altered_after_registration_is_refused(world: World) -> None:
    number = staged(world, world.register_own())
    altered = world.root / "holdout.parquet"
    pd.read_parquet(world.models.holdout).iloc[1:].to_parquet(altered)
    world.store.client.log_artifact(world.version(number).run_id, str(altered), "holdout")
    assert "not the one it was registered with" in refused(world)


def overwrite(world: World, number: str, name: str, content: bytes) -> None:
    """Replace one file of a registered version behind the registry's back."""
    found = world.store.client.get_model_version(world.store.model, number)
    (world.root / "planted").mkdir()
    (world.root / "planted" / name).write_bytes(content)
    model_id = str(found.source).removeprefix("models:/")
    world.store.client.log_model_artifacts(model_id, str(world.root / "planted"))


def model_file(world: World, number: str) -> Path:
    """Return the largest file of a version: the model itself."""
    (world.root / "fetched").mkdir()
    fetched = registry.fetch(world.version(number), world.root / "fetched")
    files = [path for path in fetched.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("harm", ["truncated", "planted"])
def test_an_altered_artifact_is_refused_and_does_not_run(world: World, harm: str) -> None:
    number = staged(world, world.register_own())
    original, trace = model_file(world, number), world.root / "it-ran"
    pickled = f"cos\nmkdir\n(V{trace}\ntR.".encode()  # to read it is to make a folder
    content = pickled if harm == "planted" else original.read_bytes()[:100]
    overwrite(world, number, original.name, content)
    assert "altered or truncated" in refused(world)
    original.write_bytes(content)
    with pytest.raises(RegistryError, match=original.name):
        model_format.load(original.parent)
    assert not trace.exists()


@pytest.mark.parametrize("tag", [registry.DIGEST_TAG, registry.BUNDLE_DIGEST_TAG])
def test_a_version_without_a_digest_is_refused(world: World, tag: str) -> None:
    number = staged(world)
    world.store.client.delete_model_version_tag(world.store.model, number, tag)
    assert f"has no {tag} tag" in refused(world)


def plant_bundle(world: World, number: str, folder: Path, *, own_digest: bool) -> None:
    """Put another model's bundle in place of a version's, with the digest to match or without."""
    client, version = world.store.client, world.version(number)
    (folder / "planted").mkdir()
    export(world.models.bad, pd.read_parquet(world.models.holdout), folder / "planted")
    client.log_artifacts(version.run_id, str(folder / "planted"), registry.BUNDLE)
    if own_digest:
        digest = tree_digest(folder / "planted")
        client.set_model_version_tag(version.name, number, registry.BUNDLE_DIGEST_TAG, digest)


def test_a_swapped_bundle_is_refused(world: World) -> None:
    plant_bundle(world, staged(world, world.register_own()), world.root, own_digest=False)
    assert "altered or truncated" in refused(world)


def test_a_bundle_of_another_model_is_refused_whatever_its_digest(world: World) -> None:
    plant_bundle(world, staged(world, world.register_own()), world.root, own_digest=True)
    assert "served answers differ from the model's" in refused(world)


def test_a_version_with_another_contract_is_refused(world: World) -> None:
    staged(world)
    columns = signature()
    columns.inputs = type(columns.inputs)([*columns.inputs.inputs, ColSpec("double", "new")])
    world.patch.setattr(gates, "signature", lambda: columns)
    assert "contract: differs in" in refused(world)


def test_a_champion_from_before_bundles_is_compared_by_its_model(world: World) -> None:
    champion, store = world.in_production(), world.store
    staged(world)
    store.client.delete_model_version_tag(store.model, champion, registry.BUNDLE_DIGEST_TAG)
    assert "the difference may be noise" in refused(world)


def test_a_champion_that_needs_a_feature_that_is_gone_is_told(world: World) -> None:
    champion = world.in_production()
    staged(world)
    load = bundle.load

    def as_before(folder: Path, *, own_features: bool = False) -> bundle.Scorer:
        found = load(folder, own_features=own_features)
        before = found.description.model_copy(update={"numbers": ["gone"]})
        return replace(found, description=before) if own_features else found

    world.patch.setattr(bundle, "load", as_before)
    assert f"version {champion} needs gone" in refused(world)


def test_a_version_that_is_not_ready_is_refused(world: World) -> None:
    number = staged(world)
    honest = registry.version
    world.patch.setattr(
        registry, "version", lambda *words: replace(honest(*words), status="PENDING_REGISTRATION")
    )
    assert "PENDING_REGISTRATION" in refused(world, "--version", number)


def test_files_other_than_those_evaluated_are_refused(world: World) -> None:
    staged(world)
    with pytest.raises(ConflictError, match="--sha256"):
        world.command("promote", "--to", "production", "--sha256", "0" * 64)


def test_an_unmeasurable_champion_keeps_the_candidate_out(world: World) -> None:
    champion = world.in_production(world.register_own())
    staged(world)
    original = model_file(world, champion)
    overwrite(world, champion, original.name, b"")  # which need not be read
    assert "the difference may be noise" in refused(world)
    plant_bundle(world, champion, original.parent, own_digest=False)
    assert "altered or truncated" in refused(world).partition("improvement: ")[2]


def test_rows_without_a_value_are_a_slice_and_few_rows_are_told(world: World) -> None:
    name = FEATURE_NAMES[0]
    bound_slices(world, name, min_rows=100)
    rows = pd.read_parquet(world.models.holdout).assign(**{name: None})
    world.patch.setattr(evaluate, "score", lambda *_: {})
    evidence, settings = gates.Evidence("m", "1", None, None), config.load("gates", GatesConfig)
    *_, gate = gates._scores(evidence, rows, np.zeros(len(rows)), settings)
    assert gate.name.endswith(f" of {name}=missing")
    assert (gate.measured, gate.passed) == ("not measured", False)
    assert "raise slices.min_rows" in gate.advice
