"""Edits that users make, each of one file: at its place, or where a release had none."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix import Answers
from projects import commit_all

PACKAGE = "flight_delays"
MODEL = {
    "sklearn": ("        early_stopping=True,\n", "        max_bins=128,\n"),
    "pytorch": ("        self.encoder, self.config =", "        torch.set_num_threads(1)\n"),
}
HOUR = '    hour: int = Field(ge=0, le=23, description="hour of departure", examples=[17])\n'
STEP = "      - name: Ask the data team's rules\n        run: make rules\n"
WORKFLOW = """\
name: nightly
on:
  schedule:
    - cron: "0 3 * * *"
jobs:
  train:
    runs-on: ubuntu-24.04
    steps:
      - run: make install run
"""
MODULE = '''\
"""Weather, of our own."""

FOG_MILES = 0.62


def is_fog(visibility_miles: float) -> bool:
    """Say whether pilots see less than a kilometre."""
    return visibility_miles < FOG_MILES
'''
ROUTE = '''

@router.get("/contact")
async def contact() -> dict[str, str]:
    """Say who answers questions."""
    return {"team": "planning"}
'''
TARGET = "rules: ## hold the data against the data team's rules\n\t@true\n"
RECIPE = f"{TARGET}\ntest::\n\t@true\n"


@dataclass(frozen=True)
class Edit:
    """Text put into a file before or after a line that is there, or at its end, or as a new file.

    `ours` says that the lines around it are the template's, so that they may conflict.
    """

    name: str
    file: str
    text: str
    after: str = ""
    before: str = ""
    replaces: str = ""
    ours: bool = False

    def make(self, project: Path) -> None:
        """Change the file in a project.

        Raises
        ------
        ValueError
            The anchor is not in the file exactly once.
        """
        path = project / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        anchor = self.after or self.before or self.replaces
        if anchor and text.count(anchor) != 1:
            raise ValueError(f"{self.file} has {anchor!r} {text.count(anchor)} times")
        put = f"{self.after}{self.text}{self.before}"
        path.write_text(text.replace(anchor, put) if anchor else text + put, encoding="utf-8")

    def is_kept(self, project: Path) -> bool:
        """Say whether the text is in the file still."""
        path = project / self.file
        return path.exists() and self.text in path.read_text(encoding="utf-8")

    def is_in_conflict(self, project: Path) -> bool:
        """Say whether a line of the text stands between conflict markers."""
        path = project / self.file
        marked = set(_between_markers(path.read_text(encoding="utf-8").splitlines()))
        return not marked.isdisjoint(line for line in self.text.splitlines() if line.strip())


def _between_markers(lines: Iterable[str]) -> Iterable[str]:
    inside = False
    for line in lines:
        inside = (inside or line.startswith("<" * 7)) and not line.startswith(">" * 7)
        if inside:
            yield line


def in_source(name: str) -> str:
    """Return the path of a module of the package."""
    return f"src/{PACKAGE}/{name}"


def everywhere(answers: Answers) -> list[Edit]:
    anchor, parameter = MODEL[answers["framework"]]
    return [
        Edit("own data path", "configs/data.yaml", "data/own/flights.parquet",
             replaces="data/sample/flights.parquet"),
        Edit("own data", in_source("data.py"),
             '    flights["hour"] = flights["departure_minute"] // 60\n',
             after='    flights["date"] = pd.to_datetime(flights["date"])\n'),
        Edit("own column", in_source("schema.py"), HOUR, before="    distance: int = Field("),
        Edit("own model", in_source("model.py"), parameter, before=anchor),
        Edit("own metric", in_source("evaluate.py"), '        "rows": float(target.size),\n',
             after="    values = {\n"),
        Edit("own split", in_source("preprocess.py"), "\n\n# Days are never divided.\n"),
        Edit("own test", in_source("tests/test_model.py"),
             "\n\ndef test_seed_is_ours() -> None:\n"
             '    assert config.load("model", ModelConfig).seed == 7\n'),
        Edit("own thresholds", "configs/gates.yaml", "latency_ms: 150", replaces="latency_ms: 200"),
        Edit("own hyperparameters", "configs/model.yaml", "seed: 7", replaces="seed: 0"),
        Edit("own limits", "configs/card.yaml", "  - Knows no fog.\n", after="limits:\n"),
        Edit("own README", "README.md", "# Late flights, by us", replaces="# Flight Delays"),
        Edit("own module", in_source("weather.py"), MODULE),
        Edit("own workflow", ".github/workflows/nightly.yml", WORKFLOW),
        Edit("workflow step", ".github/workflows/ci.yml", STEP, ours=True),
    ]  # fmt: skip


AT_THEIR_PLACES = [
    Edit("own route", in_source("serving/extra.py"), ROUTE),
    Edit("own hook", in_source("hooks.py"), '    print(f"{stage} is version {version}")\n'),
    Edit("own dependency", "pyproject.toml", 'extra = [\n    "humanize>=4",\n]',
         replaces="extra = []"),
    Edit("own target and recipe", "local.mk", RECIPE),
    Edit("own ignored files", ".gitignore", "/notebooks/\n"),
]  # fmt: skip
# 0.1.0 had no place for these: its users had to put them into the template's files. It had no
# hooks at all.
WITHOUT_A_PLACE = [
    Edit("own route", in_source("serving/app.py"),
         '    @app.get("/contact")\n    async def contact() -> Health:\n'
         '        return Health(status="planning")\n\n',
         before='    @app.post("/predict"', ours=True),
    Edit("own dependency", "pyproject.toml", '    "humanize>=4",\n',
         before=']\n\n[project.scripts]', ours=True),
    Edit("own target", "Makefile", f"\n{TARGET}", ours=True),
    Edit("own ignored files", ".gitignore", "/notebooks/\n", ours=True),
]  # fmt: skip


def at_hand(answers: Answers, version: str) -> Sequence[Edit]:
    """Return what users of a version would edit."""
    return [*everywhere(answers), *(WITHOUT_A_PLACE if version == "0.1.0" else AT_THEIR_PLACES)]


def make_all(project: Path, chosen: Iterable[Edit]) -> None:
    """Make the edits, put the data where they say, and commit."""
    for edit in chosen:
        edit.make(project)
    (project / "data/own").mkdir(parents=True)
    sample = project / "data/sample/flights.parquet"
    sample.rename(project / "data/own/flights.parquet")
    commit_all(project, "Make it ours")
