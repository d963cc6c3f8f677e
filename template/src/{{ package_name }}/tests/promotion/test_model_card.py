import re
from html.parser import HTMLParser
from typing import Any

import pytest

from ...config import CardConfig
from ...contract import FEATURE_NAMES
from ...model_card import render

CARD = CardConfig(intended_use="Tests <only>.", limits=["Knows little & less."])
PLOTS = {"second_plot": b"\x89PNG two", "first_plot": b"\x89PNG one"}


def evidence(*, champion: bool = True) -> dict[str, Any]:
    return {
        "model": "m",
        "version": "7",
        "sha256": "ab" * 32,
        "passed": False,
        "champion": "6" if champion else None,
        "gates": [
            _gate("contract", passed=True),
            _gate("some metric of place=<b>X</b>", passed=False),
        ],
        "holdout": {"sha256": "cd" * 32, "rows": 1234, "first_day": "a day", "last_day": "b day"},
        "metrics": {"error": {"value": 1.5, "low": 1.25, "high": 1.75}},
        "champion_metrics": {"error": 2.5} if champion else {},
        "improvement": {"value": 0.04, "low": 0.01, "high": 0.07} if champion else None,
        "slices": [
            {"slice": "place=<b>X</b>", "rows": 900, "judged": True, "error": 3.5},
            {"slice": "place=Y", "rows": 3, "judged": False, "error": None},
        ],
        "bundle": {"sha256": "ef" * 32, "runtime": "native", "note": "why <not>"},
        "provenance": {"git.sha": "0123abc"},
    }


def _gate(name: str, *, passed: bool) -> dict[str, Any]:
    words = {"measured": "9 < 10", "bound": "at least 10", "advice": "train & try again"}
    return {"name": name, "passed": passed, **words}


class Page(HTMLParser):
    """The words of a page, its tags and the addresses it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


@pytest.fixture
def page() -> Page:
    return Page(render(evidence(), CARD, PLOTS))


def test_the_same_evidence_gives_the_same_bytes() -> None:
    turned = dict(reversed(PLOTS.items()))
    assert render(evidence(), CARD, PLOTS) == render(evidence(), CARD, turned)


def test_words_are_shown_as_they_were_written_and_never_as_markup(page: Page) -> None:
    assert "Tests <only>." in page.text
    assert "Knows little & less." in page.text
    assert "some metric of place=<b>X</b>" in page.text
    assert "only" not in page.tags
    assert "<b>X" not in render(evidence(), CARD, PLOTS)


def test_it_loads_nothing_and_runs_nothing(page: Page) -> None:
    assert len(page.addresses) == len(PLOTS)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    html = render(evidence(), CARD, PLOTS)
    assert not re.search(r"https?://|<script|@import|url\(|\son\w+=", html)


def test_every_gate_slice_metric_and_feature_is_on_it(page: Page) -> None:
    found = evidence()
    words = [gate["name"] for gate in found["gates"]]
    words += [part["slice"] for part in found["slices"]]
    words += [*found["metrics"], *found["provenance"].values(), *FEATURE_NAMES]
    words += ["1.5000", "1.2500 to 1.7500", "2.5000", "3.5000", "not measured", "too few to judge"]
    assert [word for word in words if word not in page.text] == []


def test_a_failing_gate_comes_first_and_says_what_to_do(page: Page) -> None:
    assert "fails 1 of 2 gates" in page.text
    assert page.text.index("FAIL") < page.text.index("pass\n")
    assert page.text.count("train & try again") == 1


def test_the_champion_is_named_only_where_there_is_one(page: Page) -> None:
    assert "version 6" in page.text
    assert "+4.00%" in page.text
    alone = Page(render(evidence(champion=False), CARD, {}))
    assert "version 6" not in alone.text
    assert "loss saved" not in alone.text


def test_a_version_whose_holdout_is_lost_still_gets_a_card() -> None:
    lost = {**evidence(champion=False), "holdout": {}, "metrics": {}, "slices": []}
    assert "could not be read" in Page(render(lost, CARD, {})).text
