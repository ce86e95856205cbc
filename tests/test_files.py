"""Files and folders appear complete or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dse.errors import UserError
from dse.files import (
    atomic_folder,
    atomic_path,
    merged_folder,
    require_new_folder,
    require_writable_file,
)


def write_half(target: Path) -> None:
    with atomic_folder(target) as partial:
        (partial / "half.txt").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt


def merge_half(target: Path) -> None:
    with merged_folder(target, last="run.json") as partial:
        (partial / "run.json").write_text("new", encoding="utf-8")
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


def write_whole(target: Path, name: str, text: str) -> None:
    with atomic_folder(target) as partial:
        (partial / name).write_text(text, encoding="utf-8")


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_complete_folder_replaces_the_older_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write_whole(tmp_path / "run", "front.csv", text)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["front.csv", "run"]
    assert (tmp_path / "run" / "front.csv").read_text(encoding="utf-8") == "new"


def test_files_of_the_user_stay(tmp_path: Path) -> None:
    write_whole(tmp_path / "run", "front.csv", "old")
    (tmp_path / "run" / "my").mkdir()
    (tmp_path / "run" / "my" / "notes.txt").write_text("mine", encoding="utf-8")
    write_whole(tmp_path / "run", "front.csv", "new")
    assert (tmp_path / "run" / "my" / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "run" / "front.csv").read_text(encoding="utf-8") == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_of_two_writers_the_last_one_wins(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "run") as slow:
        (slow / "front.csv").write_text("slow", encoding="utf-8")
        write_whole(tmp_path / "run", "front.csv", "fast")
    assert (tmp_path / "run" / "front.csv").read_text(encoding="utf-8") == "slow"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead, living = f".run.{dead_process()}-00.partial", f".run.{os.getpid()}-00.partial"
    for name in (dead, living, ".run.notes-00.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "leftover").touch()
    write_whole(tmp_path / "run", "front.csv", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [living, ".run.notes-00.partial", "run"]
    )


def test_a_folder_that_a_killed_run_moved_aside_returns(tmp_path: Path) -> None:
    aside = tmp_path / f".run.{dead_process()}-00.old"
    aside.mkdir()
    (aside / "notes.txt").touch()
    write_whole(tmp_path / "run", "front.csv", "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["front.csv", "notes.txt", "run"]


# --- folders that others write to meanwhile ---


def test_a_merged_folder_leaves_what_others_write(tmp_path: Path) -> None:
    """What is open for appending stays the same file, and gets what is written while the folder is filled."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "front.csv").write_text("old", encoding="utf-8")
    with (run / "trials.journal").open("a", encoding="utf-8") as journal:
        journal.write("one\n")
        with merged_folder(run, last="run.json") as partial:
            (partial / "figures").mkdir()
            for name in ("front.csv", "figures/a.png", "run.json"):
                (partial / name).write_text("new", encoding="utf-8")
            journal.write("two\n")
            assert (run / "front.csv").read_text(encoding="utf-8") == "old"
        journal.write("three\n")
    assert (run / "trials.journal").read_text(encoding="utf-8") == "one\ntwo\nthree\n"
    assert all((run / name).read_text(encoding="utf-8") == "new" for name in ("front.csv", "figures/a.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_last_file_of_a_merged_folder_marks_it_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    replace = Path.replace

    def noted(self: Path, target: Path) -> Path:
        assert not (tmp_path / "run" / "run.json").exists()
        moved.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    for _ in range(2):
        with merged_folder(tmp_path / "run", last="run.json") as partial:
            for name in ("a.csv", "run.json", "z.csv"):
                (partial / name).touch()
    assert moved == ["a.csv", "z.csv", "run.json"] * 2


def test_a_merged_folder_that_fails_changes_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        merge_half(run)
    assert (run / "run.json").read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


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
    with pytest.raises(UserError, match="too long"):
        require_new_folder(tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="is a folder"):
        require_writable_file(tmp_path)


def test_parents_of_a_run_folder_are_made(tmp_path: Path) -> None:
    target = require_new_folder(tmp_path / "a" / "b" / "run")
    assert target.parent.is_dir()
    assert not target.exists()
