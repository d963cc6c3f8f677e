"""Our rendered service beside its peers, interleaved in one run, as ratios.

Usage: python tests/benchmarks/serving.py PROJECT [--seconds 8] [--rounds 3] [--only NAME ...]

PROJECT is a rendered, installed project with a version in production; wrk must be on the path, uv
there or in the project.
Peers are installed into environments of their own, with the project's own model twice: as most
people would serve it (natively, a DataFrame per request, without batching) and at its best (the
bundle that our service runs, with the peer's own batching where it has any). Each round starts
every server anew, in turn, so that a noisy minute hits all of them.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PEERS = Path(__file__).with_name("peers")
CONNECTIONS = (1, 16, 64)
BATCHES = (100, 1000)
START_SECONDS = 120
WARM_UP_SECONDS = 2
WRK = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open(os.getenv("BODY")); wrk.body = file:read("*a"); file:close()
done = function(summary, latency)
  local failed = summary.errors.status + summary.errors.timeout + summary.errors.read
  io.write(string.format("\\n#%f %f %f %d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, failed))
end
"""
Body = Callable[[list[dict[str, Any]]], Any]


@dataclass(frozen=True)
class Server:
    """How one server is started and asked."""

    name: str
    python: Path
    command: list[str]
    path: str = "/predict"
    body: Body = lambda rows: {"instances": rows}
    variables: dict[str, str] = field(default_factory=dict)
    floor: bool = False


def split(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write a request as MLflow's scoring server takes it."""
    columns = list(rows[0])
    data = [[row[name] for name in columns] for row in rows]
    return {"dataframe_split": {"columns": columns, "data": data}}


def open_inference(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write a request of the Open Inference Protocol, one JSON text per row."""
    texts = [json.dumps(row) for row in rows]
    tensor = {"name": "rows", "shape": [len(rows), 1], "datatype": "BYTES", "data": texts}
    return {"inputs": [tensor]}


class Bench:
    """The project, its model in the forms that are served, and the environments."""

    def __init__(self, project: Path, scratch: Path) -> None:
        settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        self.package = settings["project"]["entry-points"]["pipelines"]["run"].split(".")[0]
        self.project, self.scratch = project, scratch
        self.own = project / ".venv/bin/python"
        self.served = scratch / "served"
        self.served.mkdir()
        self._prepare()
        self.serving = self._serving_environment()
        self.rows = self._rows(max(BATCHES))

    def python(self, code: str, *words: str) -> str:
        """Run code in the project's full environment."""
        done = subprocess.run(
            [self.own, "-c", code, *words], cwd=self.project, check=True, capture_output=True,
            text=True,
        )  # fmt: skip
        return done.stdout

    def _prepare(self) -> None:
        load = (
            f"import pickle,sys;from pathlib import Path;from {self.package} import model_format;"
            "model=model_format.load(Path('artifacts/train'));"
            "Path(sys.argv[1]).write_bytes(pickle.dumps(model))"
        )
        self.python(load, str(self.served / "native.pickle"))
        subprocess.run(
            [self.own, "-m", f"{self.package}.serving.fetch", "--out", self.served / "bundle"],
            cwd=self.project, check=True, capture_output=True,
        )  # fmt: skip

    def _rows(self, count: int) -> list[dict[str, Any]]:
        read = (
            "import json,sys;import pandas as pd;"
            f"from {self.package}.contract import FEATURES;"
            "rows=pd.read_parquet('artifacts/preprocess/holdout.parquet')"
            "[[c.name for c in FEATURES]].head(int(sys.argv[1]));"
            "whole=[c.name for c in FEATURES if c.kind=='integer'];"
            "records=json.loads(rows.to_json(orient='records'));"
            "print(json.dumps([{k:int(v) if k in whole and v is not None else v"
            " for k,v in r.items()} for r in records]))"
        )
        rows: list[dict[str, Any]] = json.loads(self.python(read, str(count)))
        return rows

    def _serving_environment(self) -> Path:
        """Install the project as its image would: serving dependencies alone, compiled."""
        target = self.scratch / "serving"
        subprocess.run(
            ["uv", "sync", "--quiet", "--no-default-groups", "--group", "extra-serving",
             "--compile-bytecode", "--no-editable"],
            cwd=self.project, check=True, env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(target)},
        )  # fmt: skip
        for tests in target.glob("lib/python*/site-packages/*/**/tests"):
            shutil.rmtree(tests, ignore_errors=True)
        return target / "bin/python"

    def environment(self, name: str, *requirements: str) -> Path:
        """Install a peer, and what the native model needs, into an environment of its own."""
        target = self.scratch / name
        subprocess.run(["uv", "venv", "--quiet", "--python", self.own, target], check=True)
        names = ["scikit-learn", "pandas", "numpy", "onnxruntime", "torch"]
        pins = self.python(
            "import sys;from importlib import metadata as m\n"
            "for n in sys.argv[1:]:\n try: print(f'{n}=={m.version(n)}')\n except Exception: pass",
            *names,
        ).split()
        more = ["pydantic-settings", "pyyaml", "annotated-types", "packaging"]
        links = os.environ.get("PIP_FIND_LINKS", "").split()
        find = [word for link in links for word in ("--find-links", link)]
        # A peer may cap what the project has newer: its own choice then wins.
        for wanted in ([*pins, *more], more + [pin.split("==")[0] for pin in pins]):
            done = subprocess.run(
                ["uv", "pip", "install", "--quiet", "--python", target / "bin/python",
                 "--compile-bytecode", *find, *requirements, *wanted],
                check=False, capture_output=True, text=True,
            )  # fmt: skip
            if done.returncode == 0:
                return target / "bin/python"
        raise SystemExit(f"{name} cannot be installed: {done.stderr}")

    def variables(self, scorer: str) -> dict[str, str]:
        """Return what the peers' files read."""
        path = os.pathsep.join([str(PEERS), str(self.project / "src")])
        return {
            "SERVED": str(self.served), "PACKAGE": self.package, "SCORER": scorer,
            "PYTHONPATH": path, "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def servers(self) -> Iterator[Server]:
        """Yield ours, the floor, and each peer natively and at its best."""
        serving = {"MODEL_BUNDLE": str(self.served / "bundle"), "PREDICTION_LOG": ""}
        ours = ["-m", f"{self.package}.serving"]
        yield Server("ours", self.serving, ours, variables=serving)
        yield Server("FastAPI hello", self.serving, [str(PEERS / "hello.py"), "{port}"], floor=True)
        bento = self.environment("bentoml", "bentoml")
        lit = self.environment("litserve", "litserve")
        mls = self.environment("mlserver", "mlserver")
        for scorer, label in (("native", "default"), ("onnx", "best")):
            known = self.variables(scorer)
            yield self._mlflow(f"mlflow {label}", known)
            yield Server(
                f"BentoML {label}", bento,
                ["-m", "bentoml", "serve", "bento:Service", "--port", "{port}"], variables=known,
            )  # fmt: skip
            yield Server(
                f"LitServe {label}", lit, [str(PEERS / "lit.py"), "{port}"], variables=known
            )
            yield self._mlserver(f"MLServer {label}", mls, known)

    def _mlflow(self, name: str, known: dict[str, str]) -> Server:
        model = self.scratch / name.replace(" ", "-")
        subprocess.run(
            [self.own, PEERS / "pyfunc.py", model], check=True, capture_output=True,
            cwd=self.scratch, env={**os.environ, **known},
        )  # fmt: skip
        command = ["-m", "mlflow", "models", "serve", "-m", str(model), "-p", "{port}"]
        command += ["--env-manager", "local", "--workers", "1"]
        return Server(name, self.own, command, "/invocations", split, known)

    def _mlserver(self, name: str, python: Path, known: dict[str, str]) -> Server:
        folder = self.scratch / name.replace(" ", "-")
        folder.mkdir()
        batching = {"max_batch_size": 64, "max_batch_time": 0.001}
        settings = {
            "name": "model", "implementation": "mls.Runtime",
            **(batching if known["SCORER"] == "onnx" else {}),
        }  # fmt: skip
        (folder / "model-settings.json").write_text(json.dumps(settings))
        plain = {"parallel_workers": 0, "debug": False, "metrics_endpoint": None}
        (folder / "settings.json").write_text(json.dumps(plain))
        command = ["-m", "mlserver.cli.main", "start", str(folder)]
        path = "/v2/models/model/infer"
        return Server(name, python, command, path, open_inference, known)


@contextmanager
def running(server: Server, scratch: Path) -> Iterator[tuple[str, int]]:
    """Start a server on a free port and yield its address and process."""
    port = free_port()
    command = [str(server.python), *(word.format(port=port) for word in server.command)]
    known = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MODEL_"))}
    path = os.pathsep.join([str(server.python.parent), known.get("PATH", "")])
    with (scratch / f"{server.name.replace(' ', '-')}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=scratch, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={
                **known, **server.variables, "PORT": str(port), "PATH": path,
                "MLSERVER_HTTP_PORT": str(port), "MLSERVER_GRPC_PORT": str(free_port()),
            },
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}{server.path}", process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def first_answer(address: str, body: bytes, started: float) -> float:
    """Ask until the server answers, and return the seconds since it was started."""
    deadline = started + START_SECONDS
    problem: Exception | None = None
    while time.perf_counter() < deadline:
        request = urllib.request.Request(  # noqa: S310
            address, body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as page:  # noqa: S310
                page.read()
                return time.perf_counter() - started
        except OSError as error:
            problem = error
            time.sleep(0.01)
    raise SystemExit(f"{address} did not answer in {START_SECONDS} s: {problem}")


def memory_mb(process: int) -> float:
    """Return the memory of a process and its descendants, pages that they share counted once."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    family = {process}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    total = 0
    for member in family:
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
            total += int(re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[0])
    return total / 1024


def wrk(address: str, body: Path, connections: int, seconds: float, script: Path) -> list[float]:
    """Return requests per second, p50 and p99 in milliseconds, and failures."""
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "-s", script,
         address],
        env={**os.environ, "BODY": str(body)}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [float(word) for word in re.findall(r"^#(.*)$", done.stdout, re.MULTILINE)[0].split()]


def measure(server: Server, bench: Bench, seconds: float, script: Path) -> dict[str, float]:
    """Start one server and take all its numbers."""
    bodies = {}
    for count in (1, *BATCHES):
        path = bench.scratch / f"body-{count}.json"
        path.write_text(json.dumps(server.body(bench.rows[:count])))
        bodies[count] = path
    found: dict[str, float] = {}
    started = time.perf_counter()
    with running(server, bench.scratch) as (address, process):
        found["first s"] = first_answer(address, bodies[1].read_bytes(), started)
        wrk(address, bodies[1], 16, WARM_UP_SECONDS, script)
        for connections in CONNECTIONS:
            rate, p50, p99, failed = wrk(address, bodies[1], connections, seconds, script)
            found |= {f"c{connections} req/s": rate, f"c{connections} p50 ms": p50}
            found |= {f"c{connections} p99 ms": p99, f"c{connections} failed": failed}
        found["MB"] = memory_mb(process)
        for count in BATCHES if not server.floor else ():
            rate, p50, _, failed = wrk(address, bodies[count], 1, seconds, script)
            found |= {f"{count} rows p50 ms": p50, f"{count} rows failed": failed}
    return found


def report(results: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    """Yield the table, in Markdown, of medians over the rounds, and the ratios."""
    median = {
        name: {key: statistics.median(values) for key, values in found.items()}
        for name, found in results.items()
    }
    keys = [k for k in next(iter(median.values())) if not k.endswith("failed")]
    yield "| server | " + " | ".join(keys) + " | failed |"
    yield "|---" * (len(keys) + 2) + "|"
    for name, found in median.items():
        cells = [f"{found[k]:,.4g}" if k in found else "-" for k in keys]
        failed = sum(value for key, value in found.items() if key.endswith("failed"))
        yield f"| {name} | " + " | ".join(cells) + f" | {failed:.0f} |"
    ours = median["ours"]
    yield ""
    for label in ("default", "best"):
        peers = {n: f for n, f in median.items() if n.endswith(label)}
        for connections in CONNECTIONS if peers else ():
            key = f"c{connections} req/s"
            name, rate = max(((n, f[key]) for n, f in peers.items()), key=lambda each: each[1])
            yield f"- {key}: {ours[key] / rate:.2f} x the best peer at its {label} ({name})"
    if "FastAPI hello" in median:
        for connections in CONNECTIONS:
            key = f"c{connections} req/s"
            yield f"- {key}: {ours[key] / median['FastAPI hello'][key]:.1%} of FastAPI's hello"


def main() -> None:
    """Run the rounds and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of servers; ours is always measured")
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not on the path; Debian's package is called wrk")
    os.environ["PATH"] += os.pathsep + str(chosen.project.resolve() / ".uv/bin")
    with tempfile.TemporaryDirectory(prefix="serving-bench-") as folder:
        scratch = Path(folder)
        script = scratch / "post.lua"
        script.write_text(WRK)
        bench = Bench(chosen.project.resolve(), scratch)
        wanted = {"ours", *(chosen.only or [])}
        servers = [s for s in bench.servers() if not chosen.only or s.name in wanted]
        results: dict[str, dict[str, list[float]]] = {server.name: {} for server in servers}
        for number in range(1, chosen.rounds + 1):
            for server in servers:
                print(f"round {number}: {server.name}", file=sys.stderr, flush=True)
                for key, value in measure(server, bench, chosen.seconds, script).items():
                    results[server.name].setdefault(key, []).append(value)
        site = next((scratch / "serving/lib").glob("python*/site-packages"))
        size = sum(p.stat().st_size for p in site.rglob("*") if p.is_file()) / 1e6
        packages = len(list(site.glob("*.dist-info")))
    print("\n".join(report(results)))
    print(f"- our serving environment: {size:.0f} MB in {packages} packages")


if __name__ == "__main__":
    main()
