"""A new choice is one choice, one overlay folder and one catalogue entry, and nothing else."""

import shutil
from pathlib import Path

import pytest
import yaml
from conftest import NEXT, Render, git, render_to
from matrix import CHOICES, Answers, label, pairwise
from test_renders import ANSWERS_FILE, paths

COMPUTED = {"type": "str", "when": False, "default": "{{ '.' if framework == 'lightgbm' else '' }}"}
ENTRY = "  'lightgbm': {'serving': ['lightgbm>=4.6'], 'training': [], 'untyped': ['lightgbm']},\n"
MODEL = '"""A model of a framework that nobody knew of."""\n'
VERSION = "100.0.0"


@pytest.fixture(scope="module")
def extended(copier_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a template with one more framework."""
    template = Path(shutil.copytree(copier_template, tmp_path_factory.mktemp("extended") / "it"))
    questions = yaml.safe_load((template / "copier.yml").read_text())
    questions["framework"]["choices"]["LightGBM: boosting by another name"] = "lightgbm"
    questions["lightgbm"] = COMPUTED
    (template / "copier.yml").write_text(yaml.safe_dump(questions, sort_keys=False))
    catalogue = template / "extensions" / "catalogue.jinja"
    opening, rest = catalogue.read_text().split("set catalogue = {\n")
    catalogue.write_text(f"{opening}set catalogue = {{\n{ENTRY}{rest}")
    overlay = template / "template" / "{{ lightgbm }}" / "src" / "{{ package_name }}"
    overlay.mkdir(parents=True)
    (overlay / "model.py").write_text(MODEL)
    git(template, "add", "--all")
    git(template, "commit", "--quiet", "--message", "One more framework")
    git(template, "tag", VERSION)
    return template


def contents(project: Path) -> dict[Path, bytes]:
    """Return what a project holds, less the answers file, which records a version."""
    files = {path.relative_to(project): path.read_bytes() for path in paths(project)}
    del files[Path(ANSWERS_FILE)]
    return files


def test_new_choice_renders_its_overlay_and_its_dependencies(
    extended: Path, tmp_path: Path
) -> None:
    render_to(extended, tmp_path, {"framework": "lightgbm"}, VERSION)
    assert (tmp_path / "src" / "flight_delays" / "model.py").read_text() == MODEL
    assert '"lightgbm>=4.6"' in (tmp_path / "pyproject.toml").read_text()
    assert '"lightgbm.*"' in (tmp_path / "pyproject.toml").read_text()


def test_new_choice_is_refused_by_the_template_without_it(
    copier_template: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="lightgbm"):
        render_to(copier_template, tmp_path / "project", {"framework": "lightgbm"}, NEXT)


@pytest.mark.parametrize("others", pairwise(CHOICES), ids=label)
def test_new_choice_leaves_the_others_as_they_were(
    extended: Path, render: Render, others: Answers, tmp_path: Path
) -> None:
    render_to(extended, tmp_path, others, VERSION)
    assert contents(tmp_path) == contents(render(**others))


def test_both_tasks_describe_the_same_features(render: Render) -> None:
    """Their schemas are two files, for users to rewrite; ours differ in the target alone."""
    shared = {
        (render(task=task) / "src" / "flight_delays" / "schema.py")
        .read_text()
        .split("class Target")[0]
        for task in CHOICES["task"]
    }
    assert len(shared) == 1
