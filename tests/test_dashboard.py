"""The dashboard fits Grafana's own schema, and it and the alerts ask for metrics that exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from conftest import Render
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from test_renders import texts

Json = dict[str, Any]
RULES = Path(__file__).parent / "inside" / "alerts.yml"


@pytest.fixture
def folder(render: Render) -> Path:
    return render() / "deploy" / "monitoring"


@pytest.fixture
def dashboard(folder: Path) -> Json:
    found: Json = json.loads((folder / "dashboard.json").read_text())
    return found


@pytest.fixture
def rules(folder: Path) -> list[Json]:
    found = yaml.safe_load((folder / "alerts.yml").read_text())
    return [rule for group in found["groups"] for rule in group["rules"]]


def through_grafana(dashboard: Json) -> Json:
    """Read a dashboard into Grafana's types and write it again."""
    register_default_plugins()
    typed = Dashboard.from_json(json.loads(json.dumps(dashboard)))
    back: Json = json.loads(json.dumps(typed, cls=JSONEncoder))
    return back


def lost(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Yield the places whose key or value did not come back: what Grafana would pass over."""
    if isinstance(before, dict):
        for key, value in before.items():
            yield from lost(
                value, after.get(key) if isinstance(after, dict) else None, f"{place}.{key}"
            )
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, f"{place}[{number}]")
    elif before != after:
        yield place


def test_grafana_knows_every_key_of_the_dashboard(dashboard: Json) -> None:
    assert list(lost(dashboard, through_grafana(dashboard))) == []


def test_a_misspelt_key_would_be_found(dashboard: Json) -> None:
    dashboard["panels"][0]["titel"] = "x"
    dashboard["panels"][1]["targets"][0]["exprr"] = "x"
    found = list(lost(dashboard, through_grafana(dashboard)))
    assert found == [".panels[0].titel", ".panels[1].targets[0].exprr"]


def test_panels_do_not_cover_each_other(dashboard: Json) -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def expressions(dashboard: Json, rules: list[Json]) -> list[str]:
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [text.replace("$__rate_interval", "5m") for text in asked] + [r["expr"] for r in rules]


def test_queries_are_promql_over_metrics_that_the_service_has(
    dashboard: Json, rules: list[Json], render: Render
) -> None:
    source = "".join(text for name, text in texts(render(), ".py").items() if "/serving/" in name)
    kinds = re.findall(r'\b(Counter|Gauge|Histogram|Info)\(\s*"(\w+)"', source)
    ends = {"Histogram": ("_bucket", "_sum", "_count"), "Info": ("_info",)}
    known = {name + end for kind, name in kinds for end in ends.get(kind, ("",))}
    for query in expressions(dashboard, rules):
        promql_parser.parse(query)
        used = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+(?=[{\[)]|$)", query)) - {"histogram_quantile"}
        assert used, query
        assert used <= known, query


def test_every_alert_has_its_advice(rules: list[Json], render: Render) -> None:
    advice = (render() / "docs" / "monitoring.md").read_text()
    for rule in rules:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor) == ("docs/monitoring.md", rule["alert"].lower())
        assert f'<a id="{anchor}"></a>`{rule["alert"]}`' in advice


def test_alerts_fire_when_they_should_and_only_then(folder: Path, tmp_path: Path) -> None:
    """Prometheus itself runs them over series that we make up."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; Debian has it in the package prometheus")
    shutil.copy2(folder / "alerts.yml", tmp_path)
    shutil.copy2(RULES, tmp_path / "test.yml")
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
