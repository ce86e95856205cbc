"""memory_map.csv: MiniMalloc's columns first, half-open lifespans, all levels told apart."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from dse.cost.arena import violations
from dse.cost.arena.csv_file import read_buffers
from dse.report.certificate import csv_files
from dse.report.certificate.memory_csv import level_file_names, unquoted_ids
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


def test_no_field_needs_quotes_and_ids_stay_apart() -> None:
    memory_map = hand_made()
    object.__setattr__(memory_map.entries[1].buffer, "id", 'conv1; "inference\n\0"')
    text = csv_files(memory_map)["memory_map.csv"]
    assert '"' not in text
    assert all(line.count(",") == 9 for line in text.splitlines())
    found = [row["id"] for row in rows(text)]
    assert len(set(found)) == len(found) == 14
    assert "conv1; 'inference '" in found
    assert "conv1; inference" in found  # conv1, inference
    assert unquoted_ids(["a,b", "a;b", "a\nb", "a b"]) == {
        "a,b": "a;b", "a;b": "a;b:2", "a\nb": "a b", "a b": "a b:2",
    }  # fmt: skip


def test_the_reader_of_this_project_reads_it(tmp_path: Path) -> None:
    memory_map = hand_made()
    for name, text in csv_files(memory_map).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    table = read_buffers(tmp_path / "memory_map-sram.csv")
    offsets = table.given_offsets()
    found = [
        (buffer.id, buffer.start, buffer.end, buffer.size_bytes, buffer.alignment, offsets[buffer.id])
        for buffer in table.buffers
    ]
    assert sorted(found) == sorted(
        (unquoted_ids([own.id])[own.id], own.start, own.end, own.size_bytes, own.alignment, placed.offset)
        for placed in memory_map.entries
        if placed.level == "SRAM"
        for own in (placed.buffer,)
    )
    assert violations(found, 372) == ()
    assert violations(found, 371)
    assert len(read_buffers(tmp_path / "memory_map.csv").buffers) == 14


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
