import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException

from ... import (
    bundle,
    creation,
    hooks,
    journal,
    lifecycle,
    lock,
    promote_model,
    promotion,
    registry,
)
from ...creation import RETRIES
from ...errors import ConflictError, GateError, ProjectError, RegistryError
from ...lifecycle import Move, Store
from .conftest import DyingClient, Killed, World

MOST_WRITES = 20


def move(world: World, number: str, kind: str = "promote", before: str | None = None) -> Move:
    details = {"sha256": str(world.version(number).digest)}
    return Move(kind, "production", before, number, "test", details)


def test_absence_of_a_model_is_read_and_not_inferred(world: World) -> None:
    assert world.stages() == {}
    assert world.command("status")["stages"] == {"staging": None, "production": None}

    class BehindAProxy:
        def get_registered_model(self, _name: str) -> Any:
            said = "API request to endpoint /get failed with error code 404 != 200"
            told = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": said}
            raise RestException(told)  # type: ignore[no-untyped-call]

    with pytest.raises(MlflowException):
        registry.aliases(BehindAProxy(), world.store.model)  # type: ignore[arg-type]


def test_a_stale_expectation_is_refused(world: World) -> None:
    world.in_production()
    world.register()
    world.command("promote", "--to", "staging")
    with pytest.raises(ConflictError, match="--expect said none"):
        world.command("promote", "--to", "production", "--expect", "none")


def test_what_was_evaluated_is_enough_to_promote_it_elsewhere(world: World) -> None:
    champion = world.in_production()
    staged = world.command("evaluate", "--version", "staging")
    assert (staged["version"], staged["expect"]) == (champion, champion)
    newer = world.register()
    assert world.command("evaluate")["version"] == newer
    assert world.command("evaluate", "--version", "production")["version"] == champion


def test_an_alias_moved_between_judgement_and_lock_is_noticed(world: World) -> None:
    first, second = world.register(), world.register()
    world.store.client.set_registered_model_alias(world.store.model, "production", first)
    with pytest.raises(ConflictError, match="somebody moved it"):
        lifecycle.carry_out(world.store, move(world, second))
    assert world.stages()["production"] == first
    assert lock.holder(world.store.client, world.store.model) is None


def test_a_held_lock_stops_a_promotion_and_names_its_holder(world: World) -> None:
    number = world.register()
    owner = {"actor": "ada", "since": "noon"}
    with lock.held(world.store.client, world.store.model, owner):
        with pytest.raises(ConflictError, match="held by ada since noon"):
            lifecycle.carry_out(world.store, move(world, number))
        assert "ada" in world.command("status")["attention"][0]
    assert world.stages() == {}


def test_of_two_racing_first_promotions_exactly_one_wins(world: World) -> None:
    for _ in range(5):
        before = world.stages().get("production")
        moves = [move(world, world.register(), before=before) for _ in range(2)]
        outcomes = _race([lambda m=m: lifecycle.carry_out(_own(world), m) for m in moves])
        losers = [each for each in outcomes if isinstance(each, ConflictError)]
        winners = [each for each in outcomes if isinstance(each, str)]
        assert (len(winners), len(losers)) == (1, 1), outcomes
        won = next(e for e in world.store.history() if e.id == winners[0])
        assert world.stages()["production"] == won.after


def _own(world: World) -> Store:
    return replace(world.store, client=MlflowClient())


def _race(actions: list[Any]) -> list[Any]:
    """Run the actions at once and return what each returned or raised."""
    start = threading.Barrier(len(actions))

    def run(action: Any) -> Any:
        start.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        running = [pool.submit(run, action) for action in actions]
    return [done.exception() or done.result() for done in running]


@pytest.mark.parametrize("kind", ["promote", "rollback"])
def test_a_kill_at_any_write_is_explained_by_status_and_mended_by_one_command(
    world: World, kind: str
) -> None:
    first, second = world.register(), world.register()
    lifecycle.carry_out(world.store, move(world, first))
    kills = 0
    for kill_at in range(1, MOST_WRITES):
        before = world.stages()["production"]
        after = second if before == first else first
        dying = DyingClient(world.store.client, kill_at)
        change = move(world, after, kind, before)
        try:
            lifecycle.carry_out(replace(world.store, client=dying), change)  # type: ignore[arg-type]
        except Killed:
            kills += 1
        else:
            break
        _mended(world, before, after)
        _forgive(world, before, after)
    assert kills == (6 if kind == "promote" else 7)


def _mended(world: World, before: str, after: str) -> None:
    locked = lock.holder(world.store.client, world.store.model)
    assert bool(world.command("status")["attention"]) == bool(locked)
    world.command("break-lock")
    assert world.command("status")["attention"] == []
    assert world.stages()["production"] in {before, after}
    newest = world.store.history()[0]
    moved = world.stages()["production"] == after
    if newest.outcome == journal.DONE and moved and newest.kind == "rollback":
        assert registry.QUARANTINE_TAG in world.version(before).tags


def _forgive(world: World, *numbers: str) -> None:
    """Lift the quarantine, which people cannot, so that the next kill starts afresh."""
    for number in numbers:
        if registry.QUARANTINE_TAG in world.version(number).tags:
            client, tag = world.store.client, registry.QUARANTINE_TAG
            client.delete_model_version_tag(world.store.model, number, tag)


@pytest.mark.parametrize("lost", [False, True], ids=["not done", "done and not told"])
def test_a_registry_that_fails_at_any_call_promotes_nothing_unsaid(
    world: World, lost: bool
) -> None:
    number = world.register()
    evidence = promotion.examine(world.store, world.version(number), new_holdout=False)
    world.patch.setattr(promotion, "examine", lambda *_, **__: evidence)
    world.patch.setenv(RETRIES, "1")
    world.patch.setattr(creation, "FIRST_PAUSE", 0.0)
    failures = healed = 0
    for fail_at in range(1, 60):
        flaky = FlakyClient(world.store.client, fail_at, lost)
        known = len(world.store.history())
        store = replace(world.store, client=flaky)  # type: ignore[arg-type]
        chosen = promote_model.parse(["promote", "--to", "staging"])
        try:
            promotion.promote(store, chosen)
        except (ProjectError, MlflowException):
            failures += 1
            world.command("break-lock")
        else:
            assert world.stages()["staging"] == number
            assert lock.holder(world.store.client, world.store.model) is None
            if not flaky.failed:
                break
            healed += 1
        assert len(world.store.history()) <= known + 1
        _nothing_unsaid(world, number)
        world.store.client.delete_registered_model_alias(world.store.model, "staging")
    assert failures > 10
    assert healed == 2  # the lock, and the journal's record


def _nothing_unsaid(world: World, number: str) -> None:
    """The alias moved only if the journal says so, and nothing is left open."""
    history = world.store.history()
    assert not lifecycle.unfinished(history)
    if "staging" in world.stages():
        assert journal.in_stage_at(history, "staging", 10**15) == number


class FlakyClient:
    """A client whose nth call fails, as if the server had gone away for a moment.

    It goes before it does what it was asked, or, if answers are lost, right after.
    """

    def __init__(self, client: MlflowClient, fail_at: int, lost: bool) -> None:
        self._client = client
        self._left = fail_at
        self._lost = lost

    @property
    def failed(self) -> bool:
        return self._left <= 0

    def __getattr__(self, name: str) -> Any:
        self._left -= 1
        if self._left != 0:
            return getattr(self._client, name)

        def fail(*arguments: Any, **words: Any) -> None:
            if self._lost:
                getattr(self._client, name)(*arguments, **words)
            raise MlflowException(f"{name}: the server is gone")

        return fail


def test_rollback_restores_the_last_good_version_and_quarantines_the_other(world: World) -> None:
    good, bad = _two_in_production(world)
    result = world.command("rollback", "--reason", "complaints")
    assert (result["previous"], result["version"]) == (bad, good)
    assert world.stages()["production"] == good
    rows = {row["version"]: row for row in world.command("status")["versions"]}
    assert "complaints" in rows[bad]["quarantined"]
    with pytest.raises(GateError, match="rolled back from"):
        world.command("promote", "--to", "staging", "--version", bad)


def _two_in_production(world: World) -> tuple[str, str]:
    """Put two versions into production, the second without the gates that would refuse a tie."""
    first = world.in_production()
    second = world.register()
    lifecycle.carry_out(world.store, move(world, second, before=first))
    return first, second


def test_a_second_rollback_does_not_return_to_the_bad_version(world: World) -> None:
    _two_in_production(world)
    world.command("rollback")
    with pytest.raises(RegistryError, match="no earlier version"):
        world.command("rollback")


def test_rollback_to_a_version_that_never_served_is_refused(world: World) -> None:
    _, current = _two_in_production(world)
    new = world.register()
    with pytest.raises(GateError, match="must have been in production"):
        world.command("rollback", "--to", new)
    assert world.stages()["production"] == current


def test_rollback_verifies_that_its_target_loads_before_it_moves(world: World) -> None:
    _, current = _two_in_production(world)

    def refuse(_folder: Path) -> None:
        raise RegistryError("it does not load")

    world.patch.setattr(bundle, "load", refuse)
    with pytest.raises(RegistryError, match="does not load"):
        world.command("rollback")
    assert world.stages()["production"] == current


def test_each_move_is_followed_by_the_hook(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    number = world.register()
    followed: list[tuple[str, ...]] = []

    def follow(*move: str) -> None:
        followed.append(move)
        print("followed")

    world.patch.setattr(hooks, "after_move", follow)
    world.patch.setattr(promote_model, "open_store", lambda _settings: world.store)
    promote_model.main(["promote", "--to", "staging", "--dry-run"])
    assert followed == []
    promote_model.main(["promote"])
    assert followed == [("staging", number), ("production", number)]
    printed = capsys.readouterr()
    assert printed.out.count(f"version {number}, was none") == printed.err.count("followed") == 2
    for option in (["--expect", "none"], ["--dry-run"], ["--json"]):
        with pytest.raises(SystemExit, match="2"):
            promote_model.parse(["promote", *option])


def test_dry_runs_change_nothing(world: World) -> None:
    _two_in_production(world)
    number = world.register()
    before = world.command("status"), world.command("history")
    world.command("promote", "--to", "staging", "--version", number, "--dry-run")
    world.command("rollback", "--dry-run")
    world.command("break-lock", "--dry-run")
    assert (world.command("status"), world.command("history")) == before


def test_the_journal_says_who_was_in_production_when(world: World) -> None:
    first, second = _two_in_production(world)
    world.store.client.create_run(world.store.experiment, run_name="somebody else's")
    events = world.store.history()
    moved = [event for event in events if event.stage == "production"]
    assert [event.after for event in moved] == [second, first]
    assert journal.in_stage_at(events, "production", moved[1].at_ms) == first
    assert journal.in_stage_at(events, "production", moved[1].at_ms - 10**6) is None
    assert world.command("history", "--at", "2999-01-01")["stages"]["production"] == second


def test_each_event_keeps_its_evidence_and_origin(world: World) -> None:
    for name, value in {"SERVER_URL": "https://h", "REPOSITORY": "o/r", "RUN_ID": "7"}.items():
        world.patch.setenv(f"GITHUB_{name}", value)
    world.patch.setenv("GITHUB_ACTOR", "grace")
    number = world.register()
    result = world.command("promote", "--to", "staging", "--reason", "spring model")
    row = world.command("history")["events"][0]
    assert row["ci"] == "https://h/o/r/actions/runs/7"
    assert (row["actor"], row["reason"], row["git_sha"]) == ("grace", "spring model", "0123abc")
    assert (row["before"], row["after"], row["data_sha256"]) == (None, number, "feed")
    path = world.store.client.download_artifacts(result["event"], "evidence.json", str(world.root))
    assert json.loads(Path(path).read_text())["passed"]


def test_an_alias_moved_by_hand_is_pointed_out(world: World) -> None:
    first, _ = _two_in_production(world)
    world.store.client.set_registered_model_alias(world.store.model, "production", first)
    assert "moved by other means" in world.command("status")["attention"][0]
