"""An image is tried as a platform would run it, and nothing is left of the trial."""

from collections.abc import Sequence
from subprocess import CompletedProcess

import pytest

from ...release import command, trial
from ...release.interface import CloudError
from .conftest import MemoryCloud, release


class Docker:
    """Plays Docker; the memory cloud's server is what runs in the container."""

    def __init__(self, cloud: MemoryCloud) -> None:
        self.address = cloud.address.removeprefix("http://") + "/public"
        self.exit_code = "0"
        self.lines: list[str] = []

    def __call__(self, words: Sequence[str], text: str | None = None) -> "CompletedProcess[str]":
        assert text is None
        self.lines.append(" ".join(words))
        said = {
            "port": f"{self.address}\n",
            "wait": f"{self.exit_code}\n",
            "inspect": "false\n",
        }
        return CompletedProcess(list(words), 0, said.get(words[1], ""), "its log")


@pytest.fixture
def docker(cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch) -> Docker:
    cloud.weights = {release(1).release: 100}
    cloud.manifests[release(1).release] = release(1)
    fake = Docker(cloud)
    monkeypatch.setattr(command, "attempt", fake)
    monkeypatch.setattr(trial, "attempt", fake)
    return fake


def test_image_is_run_with_no_more_than_a_platform_gives(docker: Docker) -> None:
    trial.trial("app:local", release(1).model)
    verbs = [line.split()[1] for line in docker.lines]
    assert verbs == ["run", "port", "stop", "wait", "rm"]
    for rule in ("--read-only", "--cap-drop=ALL", "--memory=512m", "--cpus=1"):
        assert rule in docker.lines[0]


def test_image_of_another_model_is_refused_and_removed(
    docker: Docker, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CloudError, match="/version says"):
        trial.trial("app:local", release(2).model)
    assert docker.lines[-1].startswith("docker rm --force")
    assert "its log" in capsys.readouterr().err


def test_image_that_does_not_stop_when_told_is_refused(docker: Docker) -> None:
    docker.exit_code = "137"
    with pytest.raises(CloudError, match="ended with 137"):
        trial.trial("app:local", release(1).model)


def test_image_that_ends_at_once_is_refused_at_once(docker: Docker) -> None:
    docker.address = "127.0.0.1:9"
    with pytest.raises(CloudError, match="ended before it was ready"):
        trial.trial("app:local", release(1).model)
    assert docker.lines[-1].startswith("docker rm --force")
