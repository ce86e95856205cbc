"""One suite over every board and part that is shipped."""

from __future__ import annotations

import itertools
import math
import re
from importlib.resources import files

import pytest

from dse.hardware import (
    HardwareProfile,
    check_board,
    list_boards,
    list_parts,
    load_board,
    load_part,
    missing_prices,
)
from dse.hardware.bibliography import shipped_sources
from dse.vocabulary import ELEMENT_OPERATIONS, INT8_ERROR_PASSES, OPERATORS, Evidence

BOARDS = list_boards()
LOADED = {name: load_board(name) for name in BOARDS}  # frozen: one value serves every test
NOT_RECHECKED = re.compile(r"not re-checked|low quality")
SECOND_HAND = {"estimate", "esp32_matrix", "nordic_devzone", "nrf_notes", "pico_notes", "wusn"}


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> HardwareProfile:
    return LOADED[request.param]


@pytest.mark.parametrize("name", BOARDS)
def test_has_no_problem_and_its_own_name(name: str) -> None:
    assert check_board(name) == []
    assert LOADED[name].name == name
    assert load_board(name) == LOADED[name]


def test_prices_everything(board: HardwareProfile) -> None:
    assert missing_prices(board) == ()
    assert {"fp32", "int8"} <= set(board.kernels)


def test_every_price_is_finite_and_positive(board: HardwareProfile) -> None:
    for operator, pass_ in itertools.product(OPERATORS, ("fwd", "bwd_input", "bwd_weight")):
        rate = board.rate(operator, pass_, "fp32").mac_per_cycle
        assert 0 < rate.low_value <= rate.value <= rate.high_value < 64
    for operator in OPERATORS:
        assert 0 < board.rate(operator, "fwd", "int8").mac_per_cycle.value < 64
    for operation in ELEMENT_OPERATIONS:
        pass_ = "update" if operation.startswith("update_") else "fwd"
        cost = board.element_cost(operation, pass_, "fp32").cycles_per_element
        assert 0 < cost.value < 10_000


def test_passes_on_int8_errors_are_priced_whole_or_not_at_all(board: HardwareProfile) -> None:
    """For every operator and both passes of a library, in int8 alone, beside the ordinary forward pass."""
    narrow = [rate for rate in board.rates if rate.pass_ in INT8_ERROR_PASSES.values()]
    for library in {rate.library for rate in narrow}:
        found = {(rate.operator, rate.pass_) for rate in narrow if rate.library == library}
        assert found == set(itertools.product(OPERATORS, INT8_ERROR_PASSES.values()))
        assert board.rate(OPERATORS[0], "fwd", "int8", library)
    assert all(rate.dtype == "int8" for rate in narrow)


def test_zero_is_written_as_included(board: HardwareProfile) -> None:
    for path, quantity in board.numbers():
        assert math.isfinite(quantity.value)
        # Without duplex nothing overlaps: there, zero is what costs most.
        if quantity.value == 0 and path != "dma.duplex_fraction":
            assert quantity.included, f"{path} is an unmarked zero"
            assert quantity.note


def test_assumed_numbers_have_an_interval_and_a_reason(board: HardwareProfile) -> None:
    for path, quantity in board.numbers():
        if quantity.kind is Evidence.ASSUMED:
            assert quantity.low is not None, path
            assert quantity.high is not None, path


def test_values_that_were_not_rechecked_or_come_second_hand_are_assumed(board: HardwareProfile) -> None:
    weak = {key for key, text in shipped_sources().items() if NOT_RECHECKED.search(text)} | SECOND_HAND
    for path, quantity in board.numbers():
        if quantity.source in weak and not quantity.included:
            assert quantity.kind is Evidence.ASSUMED, f"{path} rests on {quantity.source}"


def test_has_memory_power_and_sleep(board: HardwareProfile) -> None:
    assert len(board.operating_points) >= 2
    assert len(board.sleep_states) >= 2
    assert any(state.retains for state in board.sleep_states)
    assert any(level.volatile and level.access in ("core", "stream") for level in board.levels)
    for level in board.levels:
        assert 0 < level.usable_bytes <= level.size_bytes.value
        for point in board.operating_points:
            clock = point.clock_hz.value
            assert 0 <= level.read_s_per_byte(clock) < 1e-5
            assert 0 <= level.write_s_per_byte(clock) < 1e-3
            assert (level.read_s_per_byte(clock) > 0) == (level.access == "stream")
    for point in board.operating_points:
        assert 1e-4 < point.inference_power_w.value < 1.0
        assert point.training_power_w.value >= 0.5 * point.inference_power_w.value


def test_sleeping_costs_less_than_working(board: HardwareProfile) -> None:
    slowest = min(point.inference_power_w.value for point in board.operating_points)
    assert all(state.power_w.value < slowest for state in board.sleep_states)


def test_with_values_moves_every_number_alone(board: HardwareProfile) -> None:
    values = {path: quantity.value * 1.5 for path, quantity in board.numbers()}
    moved = board.with_values(values)
    assert {path: quantity.value for path, quantity in moved.numbers()} == values


@pytest.mark.parametrize("name", list_parts())
def test_parts_attach_to_every_board(name: str) -> None:
    part = load_part(name)
    assert part.name == name
    assert part.level.attached
    assert part.level.access == "stream"
    assert part.level.read_s_per_byte(1e8) > 0
    assert part.level.retention_power_w is not None
    for board in BOARDS:
        attached = LOADED[board].with_parts(name)
        assert attached.levels[-1] == part.level
        assert missing_prices(attached) == ()


def test_every_source_of_the_bibliography_is_used() -> None:
    """As the source of a number, or named in a note beside one."""
    used: set[str] = set()
    notes = ""
    for name in BOARDS:
        board = LOADED[name].with_parts(*list_parts())
        used |= set(board.sources())
        notes += " ".join(quantity.note for _, quantity in board.numbers())
    assert {key for key in shipped_sources() if key not in used and key not in notes} == set()


def test_every_source_of_the_bibliography_says_what_it_is() -> None:
    text = files("hwprofiles").joinpath("references.bib").read_text(encoding="utf-8")
    assert len(shipped_sources()) == len(re.findall(r"^@", text, re.MULTILINE))
    assert all(len(entry) > 20 for entry in shipped_sources().values())
