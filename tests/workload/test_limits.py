"""Files that are larger than any network are refused before they are taken in."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.errors import UserError
from dse.workload import load_network
from dse.workload.model.limits import file_bytes


def test_a_file_of_the_limit_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2**20)
    assert len(file_bytes(path, 2**20)) == 2**20
    path.write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(UserError, match="file: larger than 1 MiB; too much"):
        file_bytes(path, 2**20, "too much")


def test_a_large_network_file_is_refused_for_its_size(tmp_path: Path) -> None:
    path = tmp_path / "large.toml"
    path.write_text("#" * (2**20 + 1), encoding="utf-8")
    with pytest.raises(UserError, match="larger than 1 MiB; a network file is smaller"):
        load_network(path)
