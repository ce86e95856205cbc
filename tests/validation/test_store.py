from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from dse.errors import UserError
from dse.validation.store import ABANDONED_S, RunStore
from tests.validation.fake_runs import job, run


def test_a_record_survives_the_file(tmp_path: Path) -> None:
    store, record = RunStore(tmp_path / "runs"), run(job())
    assert store.get(record.key) is None
    assert list(store.records()) == []
    store.put(record)
    found = RunStore(tmp_path / "runs").get(record.key)
    assert found is not None
    assert math.isnan(found.matrix[0][1])
    same = replace(found, matrix=record.matrix)
    assert same == record
    assert record.key in store
    assert len(store) == 1
    assert [one.key for one in store.records()] == [record.key]


def test_the_first_record_of_a_key_stays(tmp_path: Path) -> None:
    store, record = RunStore(tmp_path), run(job())
    store.put(record)
    store.put(replace(record, accuracy=0.0))
    found = store.get(record.key)
    assert found is not None
    assert found.accuracy == record.accuracy
    assert len(store) == 1


def test_nothing_half_written_counts_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, record = RunStore(tmp_path), run(job())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.put(record)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_runs_vanish_but_not_those_of_living_ones(tmp_path: Path) -> None:
    old, new = tmp_path / ".abc.1.partial", tmp_path / ".abc.2.partial"
    for path in (old, new):
        path.write_text("{")
    then = old.stat().st_mtime - ABANDONED_S - 1
    os.utime(old, (then, then))
    store = RunStore(tmp_path)
    assert not old.exists()
    assert new.exists()
    assert store.keys() == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[1]", "not a table"),
        ("{}", "missing"),
        ("\x00", "not JSON"),
    ],
)
def test_what_is_no_record_is_refused_with_the_file(tmp_path: Path, text: str, says: str) -> None:
    key = run(job()).key
    (tmp_path / f"{key}.json").write_text(text)
    store = RunStore(tmp_path)
    with pytest.raises(UserError, match=says) as caught:
        store.get(key)
    assert f"{key}.json" in str(caught.value)
    with pytest.raises(UserError):
        list(store.records())


def test_a_record_under_another_name_is_refused(tmp_path: Path) -> None:
    record = run(job())
    (tmp_path / "abc.json").write_text(json.dumps(record.to_dict()))
    with pytest.raises(UserError, match=record.key):
        RunStore(tmp_path).get("abc")


@pytest.mark.parametrize("key", ["", "../x", "A", "a" * 65])
def test_a_key_is_never_a_path(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        RunStore(tmp_path).get(key)


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "Notes of mine.json").write_text("{}")
    assert RunStore(tmp_path).keys() == ()
