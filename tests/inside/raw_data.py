"""Tests run inside a rendered project: its tests learn from data that lies anywhere."""

import shutil

import pytest

from . import conftest
from .conftest import Project


def test_data_outside_the_project_is_sliced_and_left_alone(
    project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "own.parquet"
    shutil.move(project.raw, elsewhere)
    before = elsewhere.read_bytes()
    (project.folder / "configs" / "data.yaml").write_text(
        f"path: {elsewhere}\ntrain_until: 2013-06-30\nvalidation_until: 2013-08-31\n"
    )
    monkeypatch.setattr(conftest, "ROOT", project.folder)
    folder = tmp_path_factory.mktemp("sliced")
    conftest.slice_data(folder)
    assert (folder / "rows.parquet").is_file()
    assert "path: rows.parquet\n" in (folder / "configs" / "data.yaml").read_text()
    assert elsewhere.read_bytes() == before
