"""Lookups, numbers by path, copies with other values, and the formulas of memory levels."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from dse.errors import UnknownName, Unpriced
from dse.hardware import HardwareProfile, Quantity, WaitStates, load_board, missing_prices
from dse.vocabulary import Evidence

SMALL = Path(__file__).parent / "data" / "small-board.toml"


@pytest.fixture(scope="module")
def small() -> HardwareProfile:
    return load_board(SMALL)


@pytest.fixture(scope="module")
def vega() -> HardwareProfile:
    return load_board("vega")


def quantity(value: float) -> Quantity:
    return Quantity(value=value, kind=Evidence.DATASHEET, source="sheet")


# -- lookups -----------------------------------------------------------------------------------------


def test_rates_default_to_library_and_cores_of_the_board(vega: HardwareProfile) -> None:
    assert vega.rate("pointwise", "fwd", "fp32").mac_per_cycle.value == 1.708  # Fig. 8, 8 cores, 128 kB
    assert vega.rate("pointwise", "fwd", "fp32", cores=1).mac_per_cycle.value == 0.239
    assert vega.rate("depthwise", "bwd_input", "fp32").mac_per_cycle.value == 0.238
    assert vega.rate("linear", "fwd", "int8").library == "dory"


def test_unpriced_names_board_key_and_nearest_entry(small: HardwareProfile) -> None:
    with pytest.raises(Unpriced) as caught:
        small.rate("pointwise", "bwd_input", "fp32")
    assert str(caught.value) == (
        "small: rate: no figure for plain, pointwise, bwd_input, fp32 on 2 cores; "
        "the nearest entry is plain, pointwise, fwd, fp32 on 2 cores"
    )


def test_unpriced_element_and_overhead(small: HardwareProfile) -> None:
    with pytest.raises(Unpriced, match="no figure for plain, relu, bwd_input, fp32 on 2 cores"):
        small.element_cost("relu", "bwd_input", "fp32")
    with pytest.raises(
        Unpriced, match="no figure for plain on 1 core; the nearest entry is plain on 2 cores"
    ):
        small.overhead("plain", 1)
    with pytest.raises(Unpriced, match=r"no kernel library for dtype 'int8'; priced: fp32 \(plain\)"):
        small.rate("linear", "fwd", "int8")


def test_missing_prices_lists_what_the_small_board_lacks(small: HardwareProfile) -> None:
    missing = missing_prices(small)
    assert any("depthwise, fwd, fp32" in line for line in missing)
    assert any("update_adam, update, fp32" in line for line in missing)
    assert not any("no figure for plain, conv2d, fwd" in line for line in missing)


def test_included_is_zero_with_a_reason(small: HardwareProfile) -> None:
    overhead = small.overhead("plain").cycles_per_call
    assert (overhead.value, overhead.included, overhead.note) == (0.0, True, "in the MAC rate")


def test_workspace_defaults_to_none(small: HardwareProfile) -> None:
    assert small.workspace("plain", "conv2d", "fwd") == "im2col_full"
    assert small.workspace("plain", "conv2d", "bwd_weight") == "none"


def test_names_are_looked_up_or_refused(vega: HardwareProfile) -> None:
    assert vega.level("L2").size_bytes.value == 1600 * 1024
    assert vega.operating_point("375MHz").training_power_w.value == pytest.approx(62e-3)
    assert vega.sleep_state("cognitive").power_w.value == pytest.approx(1.7e-6)
    with pytest.raises(UnknownName, match="did you mean 'MRAM'"):
        vega.level("MRAN")
    with pytest.raises(UnknownName, match="allowed: 375MHz, 250MHz, 160MHz"):
        vega.operating_point("fast")


# -- frozen ------------------------------------------------------------------------------------------


def test_assignment_raises(vega: HardwareProfile) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        vega.name = "other"
    with pytest.raises(ValidationError, match="frozen"):
        vega.level("L2").size_bytes.value = 1.0
    vega.kernels["fp32"] = "other"  # a copy: the profile keeps its own
    assert vega.kernels["fp32"] == "pulp-fp32"


def test_a_profile_survives_pickling(vega: HardwareProfile) -> None:
    assert pickle.loads(pickle.dumps(vega)) == vega


@pytest.mark.parametrize(
    "fields",
    [
        {"value": -1.0},
        {"value": float("nan")},
        {"value": 1.0, "low": 2.0},
        {"value": 1.0, "high": 0.5},
        {"value": 1.0, "kind": Evidence.ASSUMED},
        {"value": 1.0, "source": ""},
        {"value": 1.0, "colour": "red"},
    ],
)
def test_a_quantity_keeps_its_rules_in_python_too(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Quantity(**{"kind": Evidence.DATASHEET, "source": "sheet"} | fields)  # type: ignore[arg-type]


# -- numbers -----------------------------------------------------------------------------------------


def test_number_paths(vega: HardwareProfile) -> None:
    numbers = dict(vega.numbers())
    assert len(numbers) == len(vega.numbers()), "a path stands twice"
    assert numbers["rate[pulp-fp32,pointwise,fwd,fp32,8].mac_per_cycle"].value == 1.708
    assert numbers["element[dory,avg_pool,fwd,int8,8].cycles_per_element"].value == 3.42
    assert numbers["dma.setup_cycles"].kind is Evidence.ASSUMED
    assert "battery.charge_c" in numbers
    flash = dict(load_board("stm32l476rg").numbers())["memory.flash.wait_states.bytes_per_access"]
    assert flash.value == 8


def test_with_values_changes_the_copy_and_its_lookups_only(vega: HardwareProfile) -> None:
    path = "rate[pulp-fp32,pointwise,fwd,fp32,8].mac_per_cycle"
    assert vega.rate("pointwise", "fwd", "fp32").mac_per_cycle.value == 1.708  # fills the lookup table
    other = vega.with_values({path: 0.5, "memory.L2.size_bytes": 1024, "battery.voltage_v": 3})
    assert other.rate("pointwise", "fwd", "fp32").mac_per_cycle.value == 0.5
    assert other.rate("pointwise", "fwd", "fp32").mac_per_cycle.source == "ravaglia2021"
    assert other.level("L2").size_bytes.value == 1024
    assert other.battery.voltage_v.value == 3
    assert vega.rate("pointwise", "fwd", "fp32").mac_per_cycle.value == 1.708
    assert vega == load_board("vega")
    assert other != vega
    changed = [key for key, quantity in other.numbers() if quantity != dict(vega.numbers())[key]]
    assert sorted(changed) == sorted([path, "memory.L2.size_bytes", "battery.voltage_v"])


def test_with_values_reaches_nested_numbers() -> None:
    board = load_board("stm32l476rg")
    other = board.with_values({"memory.flash.wait_states.bytes_per_access": 4})
    slower, faster = other.level("flash").read_s_per_byte(80e6), board.level("flash").read_s_per_byte(80e6)
    assert slower == 2 * faster


def test_with_values_refuses_unknown_paths(vega: HardwareProfile) -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'memory\.L2\.size_bytes'"):
        vega.with_values({"memory.L2.size_byte": 1.0})


def test_with_parts_leaves_the_board_alone(vega: HardwareProfile) -> None:
    board = vega.with_parts("hyperram-64")
    assert [level.name for level in vega.levels] == ["L1", "L2", "MRAM"]
    assert board.parts == ("hyperram-64",)
    assert board.label == "vega + hyperram-64"
    ram = board.level("HyperRAM")
    assert ram.attached
    assert ram.volatile
    assert ram.retention_power_w is not None
    assert ram.size_bytes.value == 64 * 1024**2
    assert board.rates == vega.rates


def test_sources_are_those_in_use(vega: HardwareProfile) -> None:
    used = {number.source for _, number in vega.numbers()}
    assert used <= set(vega.sources())
    assert "Quantized Latent Replays" in vega.sources()["ravaglia2021"]
    assert "stm32l4_ll" not in vega.sources()


# -- formulas ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mhz", "states"), [(4, 0), (16, 0), (16.001, 1), (32, 1), (48, 2), (64, 3), (80, 4)]
)
def test_wait_states_of_stm32l4(mhz: float, states: int) -> None:
    waits = load_board("stm32l476rg").level("flash").wait_states
    assert waits is not None
    assert waits.states(mhz * 1e6) == states
    assert waits.s_per_byte(mhz * 1e6) == pytest.approx((1 + states) / (mhz * 1e6 * 8))


def test_wait_states_work_on_arrays() -> None:
    waits = WaitStates(thresholds_hz=(10.0, 20.0), bytes_per_access=quantity(4))
    clocks = np.array([[5.0, 10.0], [15.0, 40.0]])
    assert waits.states(clocks).tolist() == [[0, 0], [1, 2]]
    assert waits.s_per_byte(clocks).shape == (2, 2)


def test_a_faster_clock_can_read_flash_more_slowly() -> None:
    """The wait-state trap: just past a threshold the access takes longer than just before it."""
    flash = load_board("stm32l476rg").level("flash")
    assert flash.read_s_per_byte(17e6) > flash.read_s_per_byte(16e6)


def test_seconds_per_byte_by_form(small: HardwareProfile, vega: HardwareProfile) -> None:
    assert small.level("RAM").read_s_per_byte(40e6) == 0
    assert vega.level("L2").read_s_per_byte(375e6) == pytest.approx(1 / (8 * 375e6))
    assert vega.level("MRAM").read_s_per_byte(375e6) == vega.level("MRAM").read_s_per_byte(160e6)
    rom = small.level("ROM")
    assert rom.write_s_per_byte(40e6) == pytest.approx(1 / 100e3 + 20e-3 / 2048)
    assert rom.write_s_per_byte(np.array([1e6, 2e6])).shape == (2,)


def test_usable_bytes(small: HardwareProfile) -> None:
    assert small.level("RAM").usable_bytes == 56 * 1024
