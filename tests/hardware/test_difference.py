"""Differences between boards, counted by hand."""

from __future__ import annotations

from dse.hardware import Quantity, load_board
from dse.hardware.difference import differences, words


def test_a_board_does_not_differ_from_itself() -> None:
    board = load_board("stm32l4r5")
    assert differences(board, board) == ()


def test_one_changed_number_is_found_with_its_ratio() -> None:
    board = load_board("stm32l4r5")
    path = "memory.SRAM.size_bytes"
    (found,) = differences(board, board.with_values({path: 131072}))
    assert (found.path, found.ratio) == (path, 131072 / (640 * 1024))


def test_numbers_of_one_board_alone_have_no_ratio() -> None:
    first, second = load_board("stm32l4r5"), load_board("stm32l4r5 + qspi-nor")
    found = differences(first, second)
    assert found
    assert all(each.first is None and each.ratio is None for each in found)
    assert {each.path.split(".")[1] for each in found} == {"QSPI_NOR"}
    assert words(second)["parts"] == "qspi-nor"


def test_every_number_is_either_equal_or_listed() -> None:
    first, second = load_board("stm32f746"), load_board("stm32h743")
    listed = {each.path for each in differences(first, second)}
    ours, theirs = dict(first.numbers()), dict(second.numbers())
    for path in ours.keys() | theirs.keys():
        same = path in ours and path in theirs and _values(ours[path]) == _values(theirs[path])
        assert (path in listed) == (not same), path


def _values(each: Quantity) -> tuple[float, float, float, bool]:
    return each.value, each.low_value, each.high_value, each.included


def test_the_same_value_in_another_interval_differs() -> None:
    board = load_board("stm32l4r5")
    level = board.levels[0]
    wider = level.size_bytes.model_copy(update={"low": 1.0})
    levels = (level.model_copy(update={"size_bytes": wider}), *board.levels[1:])
    (found,) = differences(board, board.model_copy(update={"levels": levels}))
    assert (found.path, found.ratio) == ("memory.SRAM.size_bytes", 1.0)
