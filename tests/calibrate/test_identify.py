"""What rows cannot tell apart is said, and keeps its prior."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest

from dse.calibrate import Measurement, calibrate
from dse.calibrate.profile import with_quantities
from dse.calibrate.resolve import Resolver
from dse.hardware import load_board
from tests.calibrate.synthetic import OVERHEAD, RATES, kernel, numbers, vega

VWW = "mobilenet-v1-0.25-vww"


def together(count: int, factor: float) -> list[Measurement]:
    """Rows in which half of the time of the profile is MACs and half is calls, ``factor`` times as long."""
    values = numbers(vega(), RATES["linear"], OVERHEAD)
    rows = []
    for size in range(1, count + 1):
        macs = 1e6 * size
        half = macs / values[RATES["linear"]]
        rows.append(kernel("linear", macs, calls=half / values[OVERHEAD], cycles=2 * half * factor))
    return rows


def test_two_terms_that_always_come_together_are_named_and_keep_their_ratio() -> None:
    board = vega()
    sd = 0.5
    wide = {
        path: quantity.model_copy(update={"low": quantity.value / 2.275, "high": quantity.value * 2.275})
        for path, quantity in board.numbers()
        if path in (RATES["linear"], OVERHEAD)
    }
    board = with_quantities(board, wide)
    found = calibrate(board, together(5, 1.5))
    assert len(found.inseparable) == 1
    (joint,) = found.inseparable
    assert {term.path for term in joint.terms} == {RATES["linear"], OVERHEAD}
    assert abs(joint.correlation) > 0.9
    assert "only seen together" in str(joint)
    assert {each.status for each in found.terms} == {"only together"}
    assert all(each.term.sd == pytest.approx(sd, rel=1e-3) for each in found.terms)
    shift = {each.term.path: log(each.value / each.term.quantity.value) for each in found.terms}
    # Both costs move by the same factor: what the rows do not tell, the ratio, is as it was.
    assert -shift[RATES["linear"]] == pytest.approx(shift[OVERHEAD], rel=1e-6)
    assert shift[OVERHEAD] == pytest.approx(log(1.5), rel=0.02)
    for each in found.terms:
        assert log(each.high / each.low) > 0.6 * 2 * 1.645 * sd, "the interval stays wide"


def test_of_more_than_two_it_is_not_said_that_all_are_seen_in_one_row() -> None:
    sizes = [kernel(operator, 3e3, cycles=4e3) for operator in ("conv2d", "linear")]
    found = calibrate(vega(), sizes)
    (joint,) = found.inseparable
    assert {term.path for term in joint.terms} == {RATES["conv2d"], RATES["linear"], OVERHEAD}
    assert "only seen together, some of them in each row" in str(joint)
    assert "their sums are fitted" in str(joint)


def test_a_second_size_tells_them_apart() -> None:
    rows = [*together(5, 1.5), kernel("linear", 1e7, calls=1, cycles=1.5e7 / numbers(vega(), RATES["linear"])[
        RATES["linear"]])]  # fmt: skip
    found = calibrate(vega(), rows)
    assert not found.inseparable
    assert {each.status for each in found.terms} == {"fitted"}


def test_terms_that_rows_hardly_touch_keep_their_prior_exactly() -> None:
    found = calibrate(vega(), [kernel("linear", 1e8, cycles=1.2e8)])
    overhead = next(each for each in found.terms if each.term.path == OVERHEAD)
    assert overhead.status == "prior"
    assert overhead.value == overhead.term.quantity.value
    assert (overhead.low, overhead.high) == overhead.term.interval


def test_one_network_alone_names_its_operators_and_a_layer_that_would_help() -> None:
    board = load_board("stm32l4r5")
    row = Measurement(dtype="int8", network="mobilenet-v1-0.25-vww", clock_hz=120e6, latency_s=0.2)
    found = calibrate(board, [row])
    joint, *_ = found.inseparable
    labels = " ".join(term.label for term in joint.terms)
    assert "pointwise" in labels
    assert "depthwise" in labels
    assert "of mobilenet-v1-0.25-vww alone (fwd int8)" in joint.advice
    # The sum is fitted all the same.
    assert found.rows[0].fitted_s == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize(("network", "seconds", "first"), [("ds-cnn", 0.03, True), (VWW, 0.2, False)])
def test_the_advice_is_the_layer_that_shrinks_the_intervals_most(
    network: str, seconds: float, first: bool
) -> None:
    """Brute force: add each layer as a row, fit again, and see what is left of the intervals."""
    board = load_board("stm32l4r5")
    whole = Measurement(dtype="int8", network=network, clock_hz=120e6, latency_s=seconds)
    resolver = Resolver(board)
    found = calibrate(board, [whole], resolver=resolver)
    joint, *_ = found.inseparable
    paths = {term.path for term in joint.terms}
    left = {}
    for unit, name in enumerate(found.rows[0].row.response.units):
        layer = replace(whole, layer=str(unit), latency_s=None, power_w=1.0)
        row, _ = resolver.row(layer)
        assert row is not None
        layer = replace(layer, latency_s=row.prior_s, power_w=None)
        again = calibrate(board, [whole, layer], keep_implausible=True, resolver=resolver)
        left[name] = sum(
            (sd / each.term.sd) ** 2
            for sd, each in zip(again.fit.sd, again.terms, strict=True)
            if each.term.path in paths
        )
    best = min(left.values())
    advised = joint.advice.removeprefix("layer ").partition(" of ")[0]
    assert left[advised] <= best * 1.05, left
    assert max(left.values()) > 1.5 * best, "the choice matters"
    assert (left[next(iter(left))] <= best * 1.05) == first, "the first layer is not always the best"


def test_a_profile_that_includes_a_cost_elsewhere_keeps_it_at_zero() -> None:
    board = load_board("stm32l4r5")
    row = Measurement(dtype="int8", network="resnet8", clock_hz=120e6, latency_s=0.25)
    found = calibrate(board, [row])
    assert any("relu" in label and "MAC rate" in why for label, why in found.zeros)
    assert not any(each.term.path.startswith("element") for each in found.terms)
