"""A project that nobody touched is, once updated, what a fresh render would be."""

import re
import shutil
from pathlib import Path

import yaml
from conftest import NEXT, git, render_to
from pytest_copier.plugin import CopierFixture, CopierProject
from questions import TEMPLATE
from test_renders import ANSWERS_FILE, paths


def seed_files(project: Path) -> set[Path]:
    """Return the files that are the user's from the first render on."""
    excluded = "\n".join(yaml.safe_load((TEMPLATE / "copier.yml").read_text())["_exclude"])
    patterns = re.findall(r"_copier_operation == 'update' %\}(.+?)\{%", excluded)
    assert patterns
    return {path for pattern in patterns for path in project.glob(pattern)}


def test_untouched_project_updates_to_a_fresh_render(
    copier_template: Path, copier: CopierFixture, tmp_path: Path
) -> None:
    oldest = min(git(copier_template, "tag").split(), key=lambda tag: tag == NEXT)
    old, fresh = tmp_path / "old", tmp_path / "fresh"
    render_to(copier_template, old, {}, oldest)
    git(old, "init", "--quiet")
    git(old, "add", "--all")
    git(old, "commit", "--quiet", "--message", "As rendered")
    render_to(copier_template, fresh, {})
    seeds = {path.relative_to(old): path.read_bytes() for path in seed_files(old)}

    updated = CopierProject(old, copier).update()

    assert yaml.safe_load((old / ANSWERS_FILE).read_text())["_commit"] == NEXT
    for name, content in seeds.items():
        assert (old / name).read_bytes() == content
    for folder in (old, fresh):
        for path in seed_files(folder):
            path.unlink()
    shutil.rmtree(old / ".git")
    assert [p.relative_to(old) for p in paths(old)] == [p.relative_to(fresh) for p in paths(fresh)]
    updated.assert_equal(fresh)
