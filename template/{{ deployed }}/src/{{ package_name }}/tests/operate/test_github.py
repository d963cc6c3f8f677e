"""The doctor asks for what a release's jobs sign in to the registry by, wherever GitHub has it."""

from collections.abc import Sequence
from subprocess import CompletedProcess

import pytest

from ...operate import github, login

HERE = github.Repository("acme/example", "123456")


class Lists:
    """Plays what GitHub lists, by the end of the address; it knows no other."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}

    def __call__(self, words: Sequence[str]) -> "CompletedProcess[str]":
        found = self.names.get(words[-1].removeprefix(f"repos/{HERE.name}/"))
        code, said = (0, "\n".join(found)) if found else (1, "Not Found")
        return CompletedProcess(list(words), code, said, "")

    def fixes(self) -> list[str]:
        """Return the commands that set what is missing for releases to production."""
        steps = github.checks(HERE, "production")[len(github.ENVIRONMENTS) :]
        missing = [step.fix for step in steps if not step.exists()]
        return [fix.removesuffix(f" --repo={HERE.name}") for fix in missing]


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Lists:
    """Return lists that are empty, where a registry has an address and asks who and where."""
    monkeypatch.setattr(login, "REPOSITORY", (github.ADDRESS,))
    monkeypatch.setattr(login, "EVALUATION", ("WHO", "WHERE"))
    monkeypatch.setattr(login, "RELEASES", ("WHO",))
    monkeypatch.setattr(login, "SECRETS", ())
    fake = Lists()
    monkeypatch.setattr(github, "attempt", fake)
    return fake


def test_each_name_is_asked_for_where_it_belongs(lists: Lists) -> None:
    assert lists.fixes() == [
        f"gh variable set {github.ADDRESS}",
        "gh variable set WHO --env=evaluation",
        "gh variable set WHERE --env=evaluation",
        "gh variable set WHO --env=production",
    ]


def test_what_a_job_sees_need_not_be_its_environments_own(lists: Lists) -> None:
    lists.names = {
        "environments/evaluation/variables": ["WHO"],
        "actions/variables": ["WHERE"],
        "actions/organization-variables": [github.ADDRESS],
    }
    assert lists.fixes() == ["gh variable set WHO --env=production"]


def test_a_password_is_asked_for_where_there_is_a_registry(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    for names in ("REPOSITORY", "EVALUATION", "RELEASES"):
        monkeypatch.setattr(login, names, ())
    monkeypatch.setattr(login, "SECRETS", ("PASSWORD",))
    assert lists.fixes() == []
    lists.names["actions/variables"] = [github.ADDRESS]
    lists.names["environments/production/secrets"] = ["PASSWORD"]
    assert lists.fixes() == ["gh secret set PASSWORD --env=evaluation"]
