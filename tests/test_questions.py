"""Questions explain themselves, and wrong answers are refused with a fix, nothing written."""

import keyword
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import render_to
from copier.errors import CopierError
from matrix import CHOICES, complete
from questions import TEMPLATE, UnknownQuestionError, asked, choices

QUESTIONS = asked()
MOST_QUESTIONS = 8
# Question, a wrong answer, and words of the message that says so.
REFUSED = [
    ("project_name", "", "2 to 60 letters"),
    ("project_name", "x", "2 to 60 letters"),
    ("project_name", "9 lives", "beginning with a letter"),
    ("project_name", "Flüge", "2 to 60 letters"),
    ("project_name", 'Flight "Delays"', "2 to 60 letters"),
    ("project_name", "Flight\nDelays", "2 to 60 letters"),
    ("project_name", "a" * 61, "2 to 60 letters"),
    ("package_name", "", "lower-case letters"),
    ("package_name", "Flight", "lower-case letters"),
    ("package_name", "flight-delays", "lower-case letters"),
    ("package_name", "2flights", "beginning with a letter"),
    ("package_name", "_flights", "beginning with a letter"),
    ("package_name", "flights__late", "single underscores"),
    ("package_name", "flights_", "single underscores"),
    ("package_name", "a" * 41, "up to 40"),
    ("package_name", "../flights", "lower-case letters"),
    ("package_name", "flights\n", "lower-case letters"),
    ("package_name", "class", "Python keyword"),
    ("package_name", "json", "would hide"),
    ("package_name", "mlflow", "would hide"),
    ("package_name", "tests", "would hide"),
    ("description", "", "one line"),
    ("description", 'the "best" model', "without double quotes"),
    ("description", "one\ntwo", "one line"),
    ("description", "back\\slash", "backslashes"),
    ("description", "a" * 161, "up to 160"),
    *((name, "no-such-choice", "no-such-choice") for name in CHOICES),
]
ONE_EACH = {name: (name, value, message) for name, value, message in REFUSED if value}


def command(template: Path, target: Path, name: str, value: str) -> list[str]:
    answer = ["--data", f"{name}={value}"]
    copy = [sys.executable, "-m", "copier", "copy", "--defaults", "--quiet"]
    return [*copy, *answer, str(template), str(target)]


@pytest.mark.parametrize("name", QUESTIONS)
def test_question_says_its_consequence(name: str) -> None:
    text = QUESTIONS[name]["help"]
    assert len(text.split()) > 6
    assert text.endswith((".", "`."))


@pytest.mark.parametrize("name", QUESTIONS)
def test_question_has_choices_or_a_validator(name: str) -> None:
    assert choices(QUESTIONS[name]) or QUESTIONS[name].get("validator")


@pytest.mark.parametrize("name", CHOICES)
def test_choices_say_what_they_mean(name: str) -> None:
    offered: dict[str, Any] = QUESTIONS[name]["choices"]
    assert all(":" in text and len(text.split()) > 4 for text in offered)
    assert QUESTIONS[name]["default"] in offered.values()


def test_few_questions_are_asked() -> None:
    assert len(QUESTIONS) <= MOST_QUESTIONS


def test_every_question_has_a_refusal_tested() -> None:
    assert set(ONE_EACH) == set(QUESTIONS)


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_wrong_answer_is_refused_and_nothing_written(
    name: str, value: str, message: str, copier_template: Path, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, CopierError), match=re.escape(message)) as refusal:
        render_to(copier_template, tmp_path / "project", {name: value})
    assert name in str(refusal.value)
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(("name", "value", "message"), ONE_EACH.values(), ids=ONE_EACH)
def test_command_line_ends_with_the_refusal(
    name: str, value: str, message: str, copier_template: Path, tmp_path: Path
) -> None:
    target = tmp_path / "project"
    words = command(copier_template, target, name, value)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr.strip().splitlines()[-1]
    assert not target.exists()


@pytest.mark.parametrize("occupant", ["notes.txt", ".hidden", "src/code.py"])
def test_occupied_folder_is_refused_and_left_alone(
    occupant: str, copier_template: Path, tmp_path: Path
) -> None:
    (tmp_path / occupant).parent.mkdir(exist_ok=True)
    (tmp_path / occupant).write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        render_to(copier_template, tmp_path, {})
    assert [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()] == [Path(occupant)]
    assert (tmp_path / occupant).read_text() == "mine"


def test_package_name_follows_from_the_projects(copier_template: Path, tmp_path: Path) -> None:
    render_to(copier_template, tmp_path / "project", {"project_name": "Late 2.0 - Flights."[:-1]})
    assert [path.name for path in (tmp_path / "project" / "src").iterdir()] == ["late_2_0_flights"]


def listed(name: str) -> set[str]:
    """Read a list in extensions/reserved.jinja."""
    text = (TEMPLATE / "extensions" / "reserved.jinja").read_text(encoding="utf-8")
    found = re.search(rf"set {name} = \[(.*?)\]", text, re.DOTALL)
    assert found
    return set(re.findall(r"'(\w+)'", found[1]))


def is_importable(name: str) -> bool:
    return bool(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name))


def test_keywords_are_pythons() -> None:
    pythons = {*keyword.kwlist, *keyword.softkwlist}
    assert {name for name in pythons if is_importable(name)} - listed("keywords") == set()


def test_reserved_modules_are_those_of_the_standard_library() -> None:
    pythons = {name for name in sys.stdlib_module_names if is_importable(name)}
    assert pythons - listed("standard_library") == set()


def test_our_tests_cannot_give_answers_that_are_not_asked_for() -> None:
    with pytest.raises(UnknownQuestionError, match="clout"):
        complete({"clout": "none"})
    with pytest.raises(ValueError, match="tensorflow"):
        complete({"framework": "tensorflow"})
