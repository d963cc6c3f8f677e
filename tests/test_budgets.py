"""The default project stays small enough to read. Budgets are raised on purpose, not in passing."""

import ast
from pathlib import Path
from statistics import median

from conftest import Render
from test_renders import paths, texts

FILES = 60
PYTHON_LINES = 2_500
MEDIAN_FUNCTION_LINES = 20
MODULE_LINES = 350  # STYLE asks for about 250; this is where it stops


def python(project: Path) -> dict[str, str]:
    return texts(project, ".py")


def test_default_project_has_few_files(render: Render) -> None:
    assert len(paths(render())) < FILES


def test_default_project_has_little_python(render: Render) -> None:
    lines = {name: len(text.splitlines()) for name, text in python(render()).items()}
    assert sum(lines.values()) < PYTHON_LINES, sorted(lines.items(), key=lambda item: -item[1])


def test_functions_are_short(project: Path) -> None:
    lengths = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for text in python(project).values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert median(lengths) < MEDIAN_FUNCTION_LINES


def test_modules_are_short(project: Path) -> None:
    long = {n: len(t.splitlines()) for n, t in python(project).items()}
    assert {name: lines for name, lines in long.items() if lines > MODULE_LINES} == {}
