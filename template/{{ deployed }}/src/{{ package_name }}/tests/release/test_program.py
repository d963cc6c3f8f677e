"""Whatever happens, traffic ends on a good revision, and the journal says what happened."""

import pytest

from ...errors import TERMINATED, ConflictError
from ...release import journal
from ...release.interface import Observation, RejectedError, StrandedError
from ...release.program import Program
from .conftest import PLACEHOLDER, Killed, MemoryCloud, fail, kill, release

MOVES = ("stage", "shift", "promote", "withdraw")


def moves(cloud: MemoryCloud) -> list[str]:
    return [call for call in cloud.calls if call.startswith(MOVES)]


def restarted(cloud: MemoryCloud) -> None:
    cloud.dead = False
    cloud.spoil.clear()
    cloud.calls.clear()


def test_good_release_takes_all_steps_in_order(cloud: MemoryCloud, program: Program) -> None:
    name = release(1).release
    assert program.release(release(1)) == name
    assert moves(cloud) == [
        f"stage {name}",
        f"shift {name} 10 {PLACEHOLDER}",
        f"shift {name} 50 {PLACEHOLDER}",
        f"promote {name}",
    ]
    assert cloud.traffic() == {name: 100}
    assert cloud.what_happened() == ["staged", "canary", "canary", "promoted"]
    assert journal.holder(cloud) is None


def test_staging_has_no_canary(cloud: MemoryCloud, program: Program) -> None:
    plan = program.plan.model_copy(update={"canary": []})
    Program(cloud, plan, report=program.report).release(release(1))
    assert moves(cloud) == [f"stage {release(1).release}", f"promote {release(1).release}"]


def test_first_release_where_nothing_serves_needs_no_canary(
    cloud: MemoryCloud, program: Program
) -> None:
    cloud.weights = {}
    program.release(release(1))
    assert cloud.what_happened() == ["staged", "promoted"]


def test_released_again_does_nothing(cloud: MemoryCloud, program: Program) -> None:
    program.release(release(1))
    cloud.calls.clear()
    program.release(release(1))
    assert moves(cloud) == [f"stage {release(1).release}"]
    assert cloud.traffic() == {release(1).release: 100}


def test_failed_smoke_at_0_percent_moves_no_traffic(cloud: MemoryCloud, program: Program) -> None:
    cloud.broken.add(release(1).release)
    with pytest.raises(RejectedError, match=f"answers 500.*{PLACEHOLDER} serves") as refused:
        program.release(release(1))
    assert refused.value.exit_code == 3
    assert not [call for call in moves(cloud) if call.startswith(("shift", "promote"))]
    assert cloud.traffic() == {PLACEHOLDER: 100}
    assert cloud.what_happened() == ["staged", "rejected"]


def test_release_that_does_not_start_is_stopped(cloud: MemoryCloud, program: Program) -> None:
    cloud.spoil["stage"] = fail
    with pytest.raises(RejectedError, match=f"did not start: .*breaker. {PLACEHOLDER} serves"):
        program.release(release(1))
    assert moves(cloud) == [f"stage {release(1).release}", f"withdraw None {PLACEHOLDER}"]
    assert cloud.what_happened() == ["rejected"]
    assert journal.holder(cloud) is None


def test_release_cancelled_while_it_starts_is_stopped(cloud: MemoryCloud, program: Program) -> None:
    def cancel() -> None:
        raise SystemExit(TERMINATED)

    cloud.spoil["stage"] = cancel
    with pytest.raises(SystemExit):
        program.release(release(1))
    assert moves(cloud)[-1] == f"withdraw None {PLACEHOLDER}"
    assert journal.holder(cloud) is None


def test_another_model_than_the_manifests_is_refused(cloud: MemoryCloud, program: Program) -> None:
    wrong = release(1).model_copy(update={"model": release(2).model})
    cloud.spoil["write"] = lambda: cloud.manifests.update({release(1).release: wrong})
    with pytest.raises(RejectedError, match="/version says"):
        program.release(release(1))
    assert cloud.traffic() == {PLACEHOLDER: 100}


def test_failed_canary_goes_back(cloud: MemoryCloud, program: Program) -> None:
    program.release(release(1))
    cloud.observed = Observation(requests=200, errors=3)
    with pytest.raises(RejectedError, match="3 of 200 requests failed at 10 %"):
        program.release(release(2))
    assert cloud.traffic() == {release(1).release: 100}
    assert cloud.what_happened()[-3:] == ["staged", "canary", "rejected"]


def test_error_share_at_the_bound_is_allowed(cloud: MemoryCloud, program: Program) -> None:
    cloud.observed = Observation(requests=200, errors=2)
    program.release(release(1))
    assert cloud.traffic() == {release(1).release: 100}


def test_rollback_by_the_cloud_itself_is_no_success(cloud: MemoryCloud, program: Program) -> None:
    cloud.spoil["promote"] = fail
    with pytest.raises(RejectedError, match="circuit breaker"):
        program.release(release(1))
    assert cloud.traffic() == {PLACEHOLDER: 100}
    assert cloud.what_happened()[-1] == "rejected"


def test_public_address_is_asked_after_all_traffic_moved(
    cloud: MemoryCloud, program: Program
) -> None:
    cloud.spoil["promote"] = lambda: cloud.broken.add(release(1).release)
    with pytest.raises(RejectedError, match="answers 500"):
        program.release(release(1))
    assert cloud.traffic() == {PLACEHOLDER: 100}


def test_traffic_that_cannot_be_put_back_is_said_and_keeps_the_lock(
    cloud: MemoryCloud, program: Program
) -> None:
    cloud.broken.add(release(1).release)
    cloud.spoil["withdraw"] = fail
    with pytest.raises(StrandedError, match="could not be put back to placeholder") as stranded:
        program.release(release(1))
    assert stranded.value.exit_code == 5
    assert journal.holder(cloud) is not None


def test_cancelled_release_goes_back(cloud: MemoryCloud, program: Program) -> None:
    def cancel() -> None:
        raise SystemExit(TERMINATED)

    cloud.spoil["observe"] = cancel
    with pytest.raises(SystemExit):
        program.release(release(1))
    assert cloud.traffic() == {PLACEHOLDER: 100}
    assert journal.holder(cloud) is None


@pytest.mark.parametrize("call", ["stage", "shift", "observe", "promote", "delete"])
def test_killed_release_is_taken_up_by_the_next_attempt_of_its_run(
    call: str, cloud: MemoryCloud, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    cloud.spoil[call] = kill(cloud)
    with pytest.raises(Killed):
        program.release(release(1))
    restarted(cloud)
    assert program.release(release(1)) == release(1).release
    assert cloud.traffic() == {release(1).release: 100}
    assert journal.holder(cloud) is None


@pytest.fixture
def killed(cloud: MemoryCloud, program: Program, monkeypatch: pytest.MonkeyPatch) -> MemoryCloud:
    """The cloud after a release was killed in its canary, as its run's next attempt finds it."""
    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    cloud.spoil["observe"] = kill(cloud)
    with pytest.raises(Killed):
        program.release(release(1))
    restarted(cloud)
    return cloud


def test_release_killed_at_half_the_traffic_goes_back_to_what_served_before_it(
    killed: MemoryCloud, program: Program
) -> None:
    killed.weights = {release(1).release: 90, PLACEHOLDER: 10}
    killed.broken.add(release(1).release)
    with pytest.raises(RejectedError):
        program.release(release(1))
    assert killed.traffic() == {PLACEHOLDER: 100}


def test_release_killed_at_half_the_traffic_goes_back_if_it_does_not_start_again(
    killed: MemoryCloud, program: Program
) -> None:
    killed.spoil["stage"] = fail
    with pytest.raises(RejectedError, match="did not start"):
        program.release(release(1))
    assert killed.traffic() == {PLACEHOLDER: 100}


def test_second_release_at_the_same_time_is_refused(
    cloud: MemoryCloud, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[ConflictError] = []

    def second() -> None:
        del cloud.spoil["observe"]
        with monkeypatch.context() as other:
            other.setenv("GITHUB_RUN_ID", "8")
            with pytest.raises(ConflictError) as error:
                program.release(release(2))
        refused.append(error.value)

    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    cloud.spoil["observe"] = second
    program.release(release(1))
    assert "CI run 7 has been releasing" in str(refused[0])
    assert refused[0].exit_code == 4
    assert cloud.traffic() == {release(1).release: 100}


def test_unlock_puts_back_what_a_killed_release_left(cloud: MemoryCloud, program: Program) -> None:
    cloud.spoil["observe"] = kill(cloud)
    with pytest.raises(Killed):
        program.release(release(1))
    restarted(cloud)
    with pytest.raises(ConflictError, match="make unlock ENV=production"):
        program.rollback("it is an emergency")
    assert f"{PLACEHOLDER} serves" in (program.unlock() or "")
    assert cloud.traffic() == {PLACEHOLDER: 100}
    assert program.unlock() is None


def test_rollback_returns_to_the_last_good_release(cloud: MemoryCloud, program: Program) -> None:
    for number in (1, 2, 3):
        program.release(release(number))
    assert program.rollback("late at night") == release(2).release
    assert program.rollback("still bad") == release(1).release
    assert cloud.traffic() == {release(1).release: 100}
    with pytest.raises(RejectedError, match="there are: none"):
        program.rollback("again")


def test_rollback_to_a_release_by_name(program: Program) -> None:
    for number in (1, 2, 3):
        program.release(release(number))
    assert program.rollback("", release(1).release) == release(1).release
    with pytest.raises(RejectedError, match=f"there are: {release(2).release}"):
        program.rollback("", "r0")


def test_rollback_that_cannot_be_asked_about_says_what_serves(
    cloud: MemoryCloud, program: Program
) -> None:
    program.release(release(1))
    program.release(release(2))
    cloud.spoil["public"] = fail
    said = f"{release(1).release} serves, but could not be asked: the deployment"
    with pytest.raises(RejectedError, match=said) as refused:
        program.rollback("bad")
    assert refused.value.exit_code == 3
    assert cloud.traffic() == {release(1).release: 100}
    assert cloud.what_happened()[-2:] == ["rolled back", "promoted"]
    assert journal.holder(cloud) is None


def test_rollback_to_what_does_not_answer_says_so(cloud: MemoryCloud, program: Program) -> None:
    program.release(release(1))
    program.release(release(2))
    cloud.broken.add(release(1).release)
    with pytest.raises(
        RejectedError, match=f"{release(1).release} serves, but /predict answers 500"
    ):
        program.rollback("bad")


def test_killed_rollback_goes_no_further_than_it_was_told(
    cloud: MemoryCloud, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    for number in (1, 2, 3):
        program.release(release(number))
    cloud.spoil["delete"] = kill(cloud)
    with pytest.raises(Killed):
        program.rollback("bad")
    restarted(cloud)
    assert program.rollback("bad") == release(2).release


def test_release_that_was_rolled_back_from_is_not_released_again(
    cloud: MemoryCloud, program: Program
) -> None:
    program.release(release(1))
    program.release(release(2))
    program.rollback("wrong prices")
    with pytest.raises(RejectedError, match="wrong prices; build a new release"):
        program.release(release(2))
    assert cloud.traffic() == {release(1).release: 100}
