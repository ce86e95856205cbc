"""Accepted prices: how they are written, what bound a board gives where none is given, what is refused."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest

from dse.errors import UserError
from dse.hardware import check_board, list_boards, load_board, missing_prices
from dse.hardware.accept import (
    ACCEPTED,
    Bound,
    accepted_prices,
    derived_bound,
    missing_dtypes,
    read_accept,
    with_accepted,
)
from dse.hardware.entries import ElementCost, Rate
from dse.vocabulary import FORWARD_ELEMENT_OPERATIONS, FORWARD_OPERATORS, Evidence


def read(given: Any) -> dict[str, Bound | None]:
    return read_accept(given, file="option", key="--accept")


def test_words_and_tables_say_the_same() -> None:
    words = read(["lstm=0.05..0.5", "sigmoid", "custom:a.b/C=1e-3..2"])
    table = read({"lstm": [0.05, 0.5], "sigmoid": True, "custom:a.b/C": [1e-3, 2]})
    assert words == table
    assert words == {"lstm": Bound(0.05, 0.5), "sigmoid": None, "custom:a.b/C": Bound(1e-3, 2.0)}


@pytest.mark.parametrize(
    "given",
    ["", "=1..2", "lstm=", "lstm=1", "lstm=2..1", "lstm=0..1", "lstm=-1..1", "lstm=1..2..3", "lstm=a..b",
     "lstm=1..inf", "lstm=nan..nan", "lstm=1..1e300"],
)  # fmt: skip
def test_what_is_no_bound_is_refused(given: str) -> None:
    with pytest.raises(UserError) as caught:
        read([given])
    assert "OPERATION=LOW..HIGH with 0 < LOW <= HIGH" in str(caught.value)


@pytest.mark.parametrize("value", [False, 3, "x", [1], [True, 2], [1, "y"], None, {"low": 1}])
def test_a_table_holds_true_or_a_pair(value: Any) -> None:
    with pytest.raises(UserError):
        read({"lstm": value})


def test_all_mistakes_come_at_once() -> None:
    with pytest.raises(UserError) as caught:
        read(["lstm=x", "gru", "gru=1..2", "=3"])
    assert len(caught.value.problems) == 3


def test_an_accepted_price_is_an_assumed_quantity_between_its_ends() -> None:
    board = load_board("nrf52840")
    found = with_accepted(board, {("lstm", True): Bound(0.05, 0.5), ("sigmoid", False): Bound(2.0, 8.0)})
    prices = {(word, dtype): price for word, dtype, _, price in accepted_prices(found)}
    assert prices.keys() == {(word, dtype) for word in ("lstm", "sigmoid") for dtype in board.kernels}
    price = found.rate("lstm", "fwd", "int8").mac_per_cycle
    assert (price.low, price.high, price.kind, price.source) == (0.05, 0.5, Evidence.ASSUMED, ACCEPTED)
    assert price.value == pytest.approx(sqrt(0.05 * 0.5))
    assert found.element_cost("sigmoid", "fwd", "int8").cycles_per_element.value == pytest.approx(4.0)
    assert accepted_prices(board) == ()  # the board itself is as it was
    assert found.model_dump_json() != board.model_dump_json()


def test_a_derived_bound_is_that_of_the_boards_own_figures() -> None:
    board = load_board("stm32l4r5")
    # int8, forward: pointwise 0.836863, linear 0.459272, convolutions 0.628823, depthwise 0.314412 MAC/cycle
    assert derived_bound(board, "int8", counted=True) == Bound(0.314412 / 10, 0.836863)
    # fp32, forward: a concatenation takes 5 cycles per element, the loss 180
    assert derived_bound(board, "fp32", counted=False) == Bound(5.0, 1800.0)
    # int8: what is contained in the rates is no figure, 2.5 (a concatenation) to 12.6 (quantising) are
    assert derived_bound(board, "int8", counted=False) == Bound(2.5, 126.0)
    again = with_accepted(board, {("lstm", True): None, ("gru", True): None})
    assert again.rate("gru", "fwd", "int8").mac_per_cycle == again.rate("lstm", "fwd", "int8").mac_per_cycle
    assert "a tenth of the board's slowest int8" in again.rate("gru", "fwd", "int8").mac_per_cycle.note


def test_only_what_is_missing_is_added() -> None:
    board = with_accepted(load_board("vega"), {("lstm", True): Bound(1, 2)})
    assert missing_dtypes(board, "lstm", counted=True) == ()
    assert missing_dtypes(board, "relu", counted=False) == ()
    assert with_accepted(board, {("lstm", True): Bound(3, 4), ("relu", False): None}) == board


def test_no_board_is_incomplete_because_of_them() -> None:
    words = (*FORWARD_OPERATORS, *FORWARD_ELEMENT_OPERATIONS)
    for name in list_boards():
        told = "\n".join(missing_prices(load_board(name)))
        assert not any(f", {word}, " in told for word in words), name
        assert check_board(name) == []


def test_a_board_may_price_them_forward_and_not_backward() -> None:
    price = load_board("vega").rates[0].mac_per_cycle
    given: dict[str, Any] = {"library": "l", "dtype": "int8", "cores": 1}
    for word in ("lstm", "custom:Mine"):
        assert not list(Rate.faults({**given, "operator": word, "pass_": "fwd", "mac_per_cycle": price}))
        (fault,) = Rate.faults({**given, "operator": word, "pass_": "bwd_input", "mac_per_cycle": price})
        assert fault.allowed == "'fwd': it runs forward only"
    (fault,) = ElementCost.faults({**given, "operation": "sigmoid", "pass_": "bwd_input"})
    assert fault.field == "pass_"
    (fault,) = ElementCost.faults({**given, "operation": "sigmoyd", "pass_": "fwd"})
    assert "did you mean 'sigmoid'?" in fault.allowed


def test_what_was_accepted_before_bounds_nothing_else() -> None:
    board = load_board("stm32l4r5")
    known = derived_bound(board, "int8", counted=True)
    wider = with_accepted(board, {("lstm", True): Bound(1e-6, 1e6)})
    assert derived_bound(wider, "int8", counted=True) == known
    assert known is not None
    assert known.high < 1e6
