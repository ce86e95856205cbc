"""Files and folders appear complete or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.errors import UserError
from dse.report.files import atomic_folder, atomic_path, require_new_folder, require_writable_file


def write_half(target: Path) -> None:
    with atomic_folder(target) as partial:
        (partial / "half.txt").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt


def write_half_file(target: Path) -> None:
    with atomic_path(target) as partial:
        partial.write_text("ne", encoding="utf-8")
        raise KeyboardInterrupt


def test_an_interrupted_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_folder_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old.txt").write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "run")
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "old.txt"]


def test_a_complete_folder_replaces_the_older_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with atomic_folder(tmp_path / "run") as partial:
            (partial / name).touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "run"]


def test_a_folder_that_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".run.partial").mkdir()
    (tmp_path / ".run.partial" / "leftover").touch()
    with atomic_folder(tmp_path / "run") as partial:
        (partial / "new").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "run"]


def test_a_failed_file_leaves_the_older_one(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        write_half_file(target)
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="is a file"):
        require_new_folder(file)
    with pytest.raises(UserError, match="cannot be made"):
        require_new_folder(file / "run")
    with pytest.raises(UserError, match="cannot be written"):
        require_writable_file(file / "table.csv")
    with pytest.raises(UserError, match="is a folder"):
        require_writable_file(tmp_path)


def test_parents_of_a_run_folder_are_made(tmp_path: Path) -> None:
    target = require_new_folder(tmp_path / "a" / "b" / "run")
    assert target.parent.is_dir()
    assert not target.exists()
