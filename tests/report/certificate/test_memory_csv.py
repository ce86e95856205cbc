"""memory_map.csv: MiniMalloc's columns first, half-open lifespans, all levels told apart."""

from __future__ import annotations

import csv
from dataclasses import replace

from dse.report.certificate import csv_files
from dse.report.certificate.memory_csv import level_file_names
from tests.report.certificate.maps import hand_made


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_the_first_columns_are_those_of_minimalloc() -> None:
    header = csv_files(hand_made())["memory_map.csv"].splitlines()[0]
    assert header == "id,lower,upper,size,offset,alignment,role,level,name,reason"


def test_a_row_by_hand() -> None:
    found = {row["id"]: row for row in rows(csv_files(hand_made())["memory_map.csv"])}
    assert found["latents"] == {
        "id": "latents", "lower": "3", "upper": "7", "size": "64", "offset": "112", "alignment": "4",
        "role": "saved activations", "level": "SRAM", "name": "latents",
        "reason": "weight gradient of classifier",
    }  # fmt: skip
    assert (found["frame"]["lower"], found["frame"]["upper"]) == ("0", "1")  # one operation long


def test_ids_with_commas_are_read_back() -> None:
    memory_map = hand_made()
    found = [row["id"] for row in rows(csv_files(memory_map)["memory_map.csv"])]
    assert sorted(found) == sorted(placed.buffer.id for placed in memory_map.entries)
    assert len(set(found)) == len(found)


def test_levels_that_are_arenas_of_their_own_have_files_of_their_own() -> None:
    files = csv_files(hand_made())
    assert list(files) == ["memory_map.csv", "memory_map-sram.csv", "memory_map-flash.csv"]
    together = rows(files["memory_map-sram.csv"]) + rows(files["memory_map-flash.csv"])
    assert together == rows(files["memory_map.csv"])
    assert {row["level"] for row in rows(files["memory_map-sram.csv"])} == {"SRAM"}


def test_one_level_needs_one_file() -> None:
    memory_map = hand_made()
    alone = replace(
        memory_map, entries=tuple(placed for placed in memory_map.entries if placed.level == "SRAM")
    )
    assert list(csv_files(alone)) == ["memory_map.csv"]


def test_rows_stand_by_address() -> None:
    offsets = [int(row["offset"]) for row in rows(csv_files(hand_made())["memory_map-sram.csv"])]
    assert offsets == sorted(offsets)


def test_levels_whose_names_make_the_same_file_name_get_numbers() -> None:
    names = level_file_names(["L2", "l2", "L-2"])
    assert list(names.values()) == ["memory_map-l2.csv", "memory_map-l2-2.csv", "memory_map-l-2.csv"]
