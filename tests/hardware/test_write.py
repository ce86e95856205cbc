"""What is written as a board's file reads back as the same board."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.hardware import HardwareProfile, list_boards, load_board
from dse.hardware.write import board_toml


def facts(board: HardwareProfile) -> dict[str, tuple[object, ...]]:
    return {
        path: (
            pytest.approx(each.value, rel=1e-9),
            pytest.approx(each.low_value, rel=1e-9),
            pytest.approx(each.high_value, rel=1e-9),
            each.kind,
            each.source,
            each.note,
            each.included,
        )
        for path, each in board.numbers()
    }


@pytest.mark.parametrize("name", list_boards())
def test_every_shipped_board_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    path = tmp_path / "board.toml"
    path.write_text(board_toml(board, ["a comment"], {"rate": "first line\nsecond line"}), encoding="utf-8")
    again = load_board(path)
    assert facts(again) == facts(board)
    for what in ("name", "title", "core", "default_libraries", "note", "bibliography"):
        assert getattr(again, what) == getattr(board, what)
    assert [level.name for level in again.levels] == [level.name for level in board.levels]
    words = ("technology", "access", "volatile", "domain", "holds", "write_in_place", "note")
    for mine, theirs in zip(again.levels, board.levels, strict=True):
        assert [getattr(mine, word) for word in words] == [getattr(theirs, word) for word in words]
    places = {rate.key: (rate.weights_in, rate.measured_at_hz, rate.shape) for rate in board.rates}
    assert {rate.key: (rate.weights_in, rate.measured_at_hz, rate.shape) for rate in again.rates} == places
    assert {entry.key: (entry.formula, entry.tile_formula) for entry in again.workspaces} == {
        entry.key: (entry.formula, entry.tile_formula) for entry in board.workspaces
    }


def test_comments_and_quotes_stay_harmless(tmp_path: Path) -> None:
    board = load_board("rp2040").model_copy(update={"title": 'a "quoted" \\ title'})
    path = tmp_path / "board.toml"
    path.write_text(board_toml(board, ["two", ""], {}, {"own": 'says "so"'}), encoding="utf-8")
    assert load_board(path).title == 'a "quoted" \\ title'
    assert path.read_text(encoding="utf-8").startswith("# two\n#\n")


def test_characters_that_toml_or_utf8_refuse_do_not_break_the_file(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    board = load_board("rp2040").model_copy(update={"title": "a\x7fb\udcffc\x00d"})
    path.write_text(board_toml(board), encoding="utf-8")
    assert load_board(path).title == "a\x7fb?c\x00d"


def test_numbers_are_written_in_the_units_of_data_sheets() -> None:
    text = board_toml(load_board("stm32l4r5"))
    for words in (
        "size_kib = { value = 640,",
        "write_kb_per_s = { value = 98,",
        "erase_us = { value = 22000,",
        "clock_mhz = { value = 120,",
        "inference_power_mw = { value = 41.95,",
    ):
        assert words in text, words
