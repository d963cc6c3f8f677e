"""A project holds no trace of an answer that was not given. The words are in absent.toml."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from conftest import Render
from matrix import CHOICES, MATRIX, Answers
from test_renders import paths, texts

TABLE: dict[str, dict[str, list[dict[str, Any]]]] = tomllib.loads(
    Path(__file__).with_name("absent.toml").read_text(encoding="utf-8")
)
ENTRIES = [
    (question, value, entry)
    for question, values in TABLE.items()
    for value, entries in values.items()
    for entry in entries
]
WORDS = [(question, value, word) for question, value, entry in ENTRIES for word in entry["words"]]


def pattern(word: str) -> re.Pattern[str]:
    body = re.escape(word).replace(r"\*", r"\w*")
    return re.compile(rf"(?<![a-z0-9_]){body}(?![a-z0-9_])", re.IGNORECASE)


def everything(project: Path) -> dict[str, str]:
    """Return each file's name and, where it is text, its contents."""
    named = {path.relative_to(project).as_posix(): "" for path in paths(project)}
    return {name: f"{name}\n{text}" for name, text in {**named, **texts(project)}.items()}


def test_every_answer_has_an_entry() -> None:
    assert {name: set(values) for name, values in TABLE.items()} == {
        name: set(values) for name, values in CHOICES.items()
    }


def test_every_exception_has_a_reason() -> None:
    exceptions = [e for _, _, e in ENTRIES if "allowed_in" in e or not e["words"]]
    assert all(entry.get("why") for entry in exceptions)


@pytest.mark.parametrize(("question", "value", "word"), WORDS, ids=str)
def test_every_word_is_said_where_its_answer_is_given(
    question: str, value: str, word: str, render: Render
) -> None:
    """A word that no project says forbids nothing."""
    chosen = [answers for answers in MATRIX if answers[question] == value]
    assert any(
        pattern(word).search(text)
        for answers in chosen
        for text in everything(render(**answers)).values()
    )


def test_no_trace_of_answers_not_given(project: Path, answers: Answers) -> None:
    files = everything(project)
    traces = [
        f"{name}: {word!r} belongs to {question}={value}"
        for question, value, entry in ENTRIES
        if answers[question] not in {value, *entry.get("also", [])}
        for word in entry["words"]
        for name, text in files.items()
        if not any(fnmatch(name, allowed) for allowed in entry.get("allowed_in", []))
        and pattern(word).search(text)
    ]
    assert traces == []
