"""Serve under load for minutes, change the version now and then, and report memory and errors.

Usage, in an installed project with a bundle (`make bundle`):
    .venv/bin/python .../tests/benchmarks/soak.py PACKAGE [MINUTES] [CONNECTIONS]

Exits with 1 if an answer was wrong or missing, or if memory grew by more than MOST_GROWTH.
"""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path

MOST_GROWTH = 0.05  # of the resident size, from the end of the first fifth to the end
SECONDS_PER_VERSION = 20
SECONDS_PER_SAMPLE = 5


def resident(pid: int) -> int:
    """Return the resident size in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


class Load(threading.Thread):
    """One connection that asks without pause."""

    def __init__(self, port: int, body: str, until: float) -> None:
        super().__init__()
        self.port, self.body, self.until = port, body, until
        self.answers, self.wrong = 0, 0
        self.expected: object = None

    def run(self) -> None:
        """Ask until the time is up; all answers differ only in the version."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while time.monotonic() < self.until:
            client.request("POST", "/predict", self.body)
            response = client.getresponse()
            content = json.loads(response.read())
            given = content.get("predictions"), content.get("probabilities")
            self.expected = self.expected or given
            self.answers += 1
            self.wrong += response.status != http.client.OK or given != self.expected


def main(package: str, minutes: float = 10, connections: int = 8) -> int:
    """Run the soak and print what came of it."""
    example = import_module(f"{package}.contract").example()
    body = json.dumps({"instances": [example] * 3})
    with tempfile.TemporaryDirectory() as scratch, socket.socket() as probe:
        bundle = Path(shutil.copytree("bundle", Path(scratch) / "bundle"))
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        settings = {
            "MODEL_BUNDLE": str(bundle), "PORT": str(port), "RELOAD_SECONDS": "1",
            "LOG_LEVEL": "warning", "PREDICTION_LOG": f"{scratch}/log",
        }  # fmt: skip
        service = subprocess.Popen(
            [sys.executable, "-m", f"{package}.serving"], env={**os.environ, **settings}
        )
        try:
            wait(port)
            until = time.monotonic() + minutes * 60
            loads = [Load(port, body, until) for _ in range(connections)]
            return report(loads, *soak(service.pid, bundle, loads))
        finally:
            service.terminate()
            service.wait(15)


def wait(port: int) -> None:
    """Wait until the service listens."""
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)


def soak(pid: int, bundle: Path, loads: list[Load]) -> tuple[list[int], int]:
    """Load the service and sample its size; every so often the bundle is another version."""
    start = time.monotonic()
    for load in loads:
        load.start()
    sizes, versions = [], 0
    record = json.loads((bundle / "version.json").read_text())
    while time.monotonic() < loads[0].until:
        if (time.monotonic() - start) / SECONDS_PER_VERSION > versions + 1:
            versions += 1
            partial = bundle.with_name("record")
            partial.write_text(json.dumps({**record, "version": f"{versions + 1}"}))
            partial.replace(bundle / "version.json")
        sizes.append(resident(pid))
        time.sleep(SECONDS_PER_SAMPLE)
    for load in loads:
        load.join()
    return sizes, versions


def report(loads: list[Load], sizes: list[int], versions: int) -> int:
    """Print the result and return the exit code."""
    settled = sizes[len(sizes) // 5]
    growth = sizes[-1] / settled - 1
    answers, wrong = sum(load.answers for load in loads), sum(load.wrong for load in loads)
    print(f"answers {answers:,}, wrong or refused {wrong}, versions taken up {versions}")
    print(f"resident MB: settled {settled / 1024:.1f}, largest {max(sizes) / 1024:.1f}, last "
          f"{sizes[-1] / 1024:.1f} ({growth:+.1%})")  # fmt: skip
    return int(wrong > 0 or growth > MOST_GROWTH or not answers)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *(float(word) for word in sys.argv[2:3]), *map(int, sys.argv[3:4])))
