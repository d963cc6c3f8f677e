"""Choices whose overlays are in the works: nobody is offered them, and the tests render them."""

import shutil
from pathlib import Path

import pytest
from conftest import Render, git, once, render_to
from matrix import DEFAULTS, label

# By question, as copier.yml will offer them; CONTRIBUTING.md lists what each still lacks.
UNOFFERED = {
    "cloud": {
        "Cloud Run: Google starts it when somebody asks; about 1 USD a month when nobody does": (
            "cloud-run"
        )
    }
}
VERSION = "100.0.0"


@pytest.fixture(scope="session")
def offering(copier_template: Path, shared: Path) -> Path:
    """Return a template that offers what is in the works, and is the same otherwise."""

    def build(template: Path) -> None:
        shutil.copytree(copier_template, template)
        path = template / "copier.yml"
        text = path.read_text()
        for name, choices in UNOFFERED.items():
            last = f"  default: {DEFAULTS[name]}\n"
            before, question = text.split(f"\n{name}:\n", 1)
            lines = "".join(f'    "{said}": {value}\n' for said, value in choices.items())
            question = question.replace(last, f"{lines}{last}", 1)
            text = f"{before}\n{name}:\n{question}"
        path.write_text(text)
        git(template, "commit", "--quiet", "--all", "--message", "Offer what is in the works")
        git(template, "tag", VERSION)

    return once(shared / "offering", build)


@pytest.fixture(scope="session")
def render_unoffered(offering: Path, shared: Path) -> Render:
    """Return a function from answers to their render, which all tests share: read it only."""

    def rendered(**answers: str) -> Path:
        full = {**DEFAULTS, **answers}
        target = shared / f"unoffered-{label(full)}"
        return once(target, lambda target: render_to(offering, target, full, VERSION))

    return rendered
