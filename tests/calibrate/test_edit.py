"""The calibrated board as a file: it reads back, keeps comments, and says what was fitted."""

from __future__ import annotations

import difflib
import itertools
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from dse.calibrate import Calibration, Measurement, calibrate, calibrated_board, calibrated_toml
from dse.calibrate.edit import _products
from dse.calibrate.profile import fitted_quantities, source_key
from dse.hardware import check_board, list_boards, load_board
from dse.vocabulary import Evidence


def calibrated(name: str, source: str = "runs/my rows.csv") -> Calibration:
    board = load_board(name)
    power = board.operating_points[0].inference_power_w.value * 1.2
    rows = [
        Measurement(dtype=dtype, operator=operator, macs=1e6, cores=board.cores, cycles=3e6, power_w=power)
        for dtype in board.kernels
        for operator in ("conv2d", "linear")
    ]
    return calibrate(board, rows, source=source, keep_implausible=True)


@pytest.mark.parametrize("name", list_boards())
def test_every_shipped_board_is_edited_and_reads_back(name: str, tmp_path: Path) -> None:
    found = calibrated(name)
    written = calibrated_toml(found, name, "mine")
    path = tmp_path / "mine.toml"
    path.write_text(written.text, encoding="utf-8")
    assert written.edited
    assert not check_board(path)
    board, before = load_board(path), load_board(name)
    fitted = fitted_quantities(found)
    assert fitted
    numbers = dict(board.numbers())
    assert numbers.keys() == dict(before.numbers()).keys()
    for number, quantity in before.numbers():
        if number in fitted:
            assert numbers[number].value == pytest.approx(fitted[number].value, rel=1e-6)
            assert numbers[number].source == "calibrated_my_rows"
        else:
            assert numbers[number] == quantity
    told = {term.term.path: (term.low, term.high) for term in found.terms if term.status != "prior"}
    told |= {power.path: (power.low_w, power.high_w) for power in found.powers}
    assert told.keys() == fitted.keys()
    for number, interval in told.items():
        assert (numbers[number].low_value, numbers[number].high_value) == pytest.approx(interval, rel=1e-5)
    assert board.name == "mine"
    assert board.workspaces == before.workspaces
    rows = "rows" if found.count > 1 else "row"
    assert board.sources()["calibrated_my_rows"] == (
        f"calibrated from runs/my rows.csv ({found.count} {rows})"
    )


def test_comments_and_everything_else_stay() -> None:
    before = files("hwprofiles").joinpath("stm32l4r5.toml").read_text(encoding="utf-8").splitlines()
    after = calibrated_toml(calibrated("stm32l4r5"), "stm32l4r5", "mine").text.splitlines()
    lost = [line[1:] for line in difflib.ndiff(before, after) if line.startswith("- ")]
    assert not any(line.strip().startswith("#") for line in lost)
    assert len(lost) < 20


def test_kinds_of_evidence(tmp_path: Path) -> None:
    """A rate that one row spends its time on is measured; what only comes with others stays assumed."""
    board = load_board("stm32l4r5")
    rows = [
        Measurement(dtype="int8", network="autoencoder", clock_hz=120e6, latency_s=0.005),
        Measurement(dtype="int8", network="mobilenet-v1-0.25-vww", clock_hz=120e6, latency_s=0.1),
    ]
    found = calibrate(board, rows)
    numbers = dict(calibrated_board(found).numbers())
    kinds = {
        operator: numbers[f"rate[x-cube-ai,{operator},fwd,int8,1].mac_per_cycle"].kind
        for operator in ("linear", "depthwise", "pointwise")
    }
    assert kinds["linear"] == Evidence.MEASURED
    assert kinds["depthwise"] == Evidence.ASSUMED
    assert kinds["pointwise"] == Evidence.DERIVED


def test_a_board_in_another_form_is_written_anew(tmp_path: Path) -> None:
    """A file with its numbers in tables of their own: valid TOML that the editor does not know."""
    text = files("hwprofiles").joinpath("stm32l4r5.toml").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("mac_per_cycle = { value = 0.836863"))
    odd = text.replace(line, 'mac_per_cycle.value = 0.836863\nmac_per_cycle.kind = "derived"\n'
                       'mac_per_cycle.source = "mlperf_v13"')  # fmt: skip
    path = tmp_path / "odd.toml"
    path.write_text(odd, encoding="utf-8")
    assert not check_board(path)
    rows = [Measurement(dtype="int8", network="ds-cnn", layer=str(unit), clock_hz=120e6, latency_s=0.006)
            for unit in (2, 4)]  # fmt: skip
    found = calibrate(load_board(path), rows, keep_implausible=True)
    assert any("pointwise" in number for number in fitted_quantities(found))
    written = calibrated_toml(found, str(path), "anew")
    assert not written.edited
    target = tmp_path / "anew.toml"
    target.write_text(written.text, encoding="utf-8")
    assert not check_board(target)
    for number, quantity in fitted_quantities(found).items():
        assert dict(load_board(target).numbers())[number].value == pytest.approx(quantity.value)


def test_a_calibrated_board_can_be_calibrated_again(tmp_path: Path) -> None:
    first = tmp_path / "first.toml"
    first.write_text(calibrated_toml(calibrated("stm32l4r5"), "stm32l4r5", "first").text, encoding="utf-8")
    board = load_board(first)
    rows = [Measurement(dtype="int8", network="ds-cnn", clock_hz=120e6, latency_s=0.03)]
    found = calibrate(board, rows, source="my rows.csv")
    written = calibrated_toml(found, str(first), "second")
    second = tmp_path / "second.toml"
    second.write_text(written.text, encoding="utf-8")
    assert written.edited
    assert load_board(second).sources()["calibrated_my_rows"] == "calibrated from my rows.csv (1 row)"


def test_the_key_of_a_source() -> None:
    assert source_key("ST/NUCLEO/x-cube-ai-8.1") == "calibrated_x_cube_ai_8_1"
    assert source_key("....csv") == "calibrated_measurements"


@given(some.sets(some.tuples(some.integers(0, 2), some.integers(0, 3), some.integers(0, 1))))
def test_products_cover_each_combination_once(rest: set[tuple[int, int, int]]) -> None:
    covered = [each for product in _products(sorted(rest)) for each in itertools.product(*product)]
    assert len(covered) == len(rest)
    assert set(covered) == rest


def test_few_products_where_one_is_taken_out() -> None:
    rest = [each for each in itertools.product("abcd", "xyz") if each != ("b", "y")]
    products = list(_products(rest))
    assert products == [[["a", "c", "d"], ["x", "y", "z"]], [["b"], ["x", "z"]]]
    assert np.prod([len(values) for values in products[0]]) == 9
