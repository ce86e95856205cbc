"""The folder of a certificate: every file, twice the same, and never half of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dse.errors import UserError
from dse.report.certificate import folder as folder_module
from dse.report.certificate import write_certificate
from tests.report.certificate.maps import certificate_of, hand_made, moved

NAMES = {
    "certificate.md", "memory_map.csv", "memory_map-sram.csv", "memory_map-flash.csv", "memory_map.h",
    "memory_map.png", "memory_map.svg", "peak.csv", "tflm_offline_plan.bin", "tflm_offline_plan.json",
}  # fmt: skip


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("certificates") / "map"
    return folder, write_certificate(certificate_of(hand_made()), folder)


def test_every_file_is_there_and_said_to_be(written: tuple[Path, dict[str, str]]) -> None:
    folder, files = written
    assert names(folder) == set(files) == NAMES
    page = (folder / "certificate.md").read_text(encoding="utf-8")
    assert all(name in page for name in NAMES)
    assert (folder / "tflm_offline_plan.bin").read_bytes()[8:12] == b"\x04\0\0\0"


def test_the_same_certificate_makes_the_same_bytes(
    written: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, _ = written
    write_certificate(certificate_of(hand_made()), tmp_path / "again")
    for name in NAMES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_what_a_new_certificate_has_not_does_not_stay_from_an_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "map"
    write_certificate(certificate_of(hand_made()), folder)
    (folder / "notes.txt").write_text("mine")
    crooked = moved(hand_made(), "pool, inference", 116)
    alone = replace(
        crooked,
        entries=tuple(placed for placed in crooked.entries if placed.level == "SRAM"),
        arena_bytes={"SRAM": 372},
    )
    files = write_certificate(certificate_of(alone), folder)
    left = {"memory_map-sram.csv", "memory_map-flash.csv", "tflm_offline_plan.bin", "tflm_offline_plan.json"}
    assert names(folder) == (NAMES - left) | {"notes.txt"}
    assert files["tflm_offline_plan.bin"].startswith("not written: 1 of 4 offsets are no multiples of 16")
    assert "place the buffers with alignment = 16" in (folder / "certificate.md").read_text(encoding="utf-8")


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "map"
    write_certificate(certificate_of(hand_made()), folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fails(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(folder_module, "_draw", fails)
    with pytest.raises(RuntimeError):
        write_certificate(certificate_of(moved(hand_made(), "weights", 8)), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert names(tmp_path) == {"map"}


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("a file")
    with pytest.raises(UserError, match="is a file"):
        write_certificate(certificate_of(hand_made()), tmp_path / "map")
