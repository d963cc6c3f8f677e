"""Run an image on this machine as a platform would: read-only, without rights, with limits."""

import os
import sys

from ..errors import ProjectError
from .command import attempt, run
from .interface import CloudError, Endpoint
from .manifest import Model
from .smoke import SmokeError, check

READY_SECONDS = 120
GRACE_SECONDS = 10  # what platforms give after SIGTERM
LIMITS = [
    "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges",
    "--memory=512m", "--cpus=1", "--pids-limit=256",
]  # fmt: skip


def trial(image: str, model: Model) -> None:
    """Start the image, ask it as a smoke test does, and stop it.

    Raises
    ------
    CloudError
        It does not become ready, answers wrongly, or does not stop by itself when told to.
    """
    name = f"trial-{os.getpid()}"
    run(
        ["docker", "run", "--detach", f"--name={name}", *LIMITS, "--publish=127.0.0.1::8080", image]
    )
    try:
        address = run(["docker", "port", name, "8080"]).split()[0]
        check(Endpoint(f"http://{address}"), model, READY_SECONDS, lambda: _running(name))
        run(["docker", "stop", f"--time={GRACE_SECONDS}", name])
        code = run(["docker", "wait", name]).strip()
        if code != "0":
            raise CloudError(f"{image} ended with {code} after SIGTERM; requests may be cut off")
    except (SmokeError, ProjectError) as error:
        print(attempt(["docker", "logs", "--tail=50", name]).stderr, file=sys.stderr)
        raise CloudError(f"{image}: {error}") from None
    finally:
        attempt(["docker", "rm", "--force", name])


def _running(name: str) -> bool:
    done = attempt(["docker", "inspect", "--format={{.State.Running}}", name])
    return done.stdout.strip() == "true"
