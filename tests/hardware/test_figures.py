"""The figures that the rates were made from come back from the shipped boards."""

from __future__ import annotations

import pytest

from dse.hardware import load_board

# MobileNet-V1 1.0 at 128x128 without its linear layer, and MobileNetV1-0.25 at 96x96: MACs by operator
MOBILENET = {"conv2d": 3_538_944, "depthwise": 5_677_056, "pointwise": 176_160_768}
VWW = {"conv2d": 497_664, "depthwise": 798_336, "pointwise": 6_193_152, "linear": 512}


def cycles(board: str, macs: dict[str, int], library: str | None = None) -> float:
    profile = load_board(board)
    rates = {name: profile.rate(name, "fwd", "int8", library).mac_per_cycle.value for name in macs}
    return sum(macs[name] / rates[name] for name in macs)


def test_networks_have_the_published_mac_counts() -> None:
    assert sum(VWW.values()) == 7_489_664
    assert sum(MOBILENET.values()) + 1024 * 50 == 185_427_968


def test_frozen_stage_of_vega() -> None:
    """Table IV of arXiv 2110.10486: units 0 to 26 of 21 images take 1.25 s at 375 MHz."""
    assert 21 * cycles("vega", MOBILENET) / 375e6 == pytest.approx(1.25, rel=1e-3)


def test_mobilenet_on_gap8() -> None:
    """Layer table of the DORY repository: 222.58 ms at 100 MHz for the 27 convolutions."""
    assert cycles("gap8", MOBILENET) / 100e6 == pytest.approx(0.22258, rel=2e-3)


def test_fp32_on_stm32l4() -> None:
    """Table IV, row 22 less row 23: layer 22 takes 49400 s per learning event at 80 MHz."""
    rate = load_board("stm32l476rg").rate("pointwise", "fwd", "fp32").mac_per_cycle.value
    assert 16_777_216 * 3 * 128 * 14 * 4 / (rate * 80e6) == pytest.approx(49400, rel=2e-3)


@pytest.mark.parametrize(
    ("board", "library", "clock_mhz", "latency_ms"),
    [
        ("stm32l4r5", "x-cube-ai", 120, 89.4343),
        ("stm32l4r5", "plumerai", 120, 98.752),
        ("stm32l4r5", "microtvm-cmsis", 120, 300.8),
        ("stm32l4r5", "tflite-micro", 120, 600.54),
        ("stm32h7a3", "x-cube-ai", 280, 23.804),
        ("stm32h7a3", "plumerai", 280, 26.816),
        ("stm32h7a3", "bosch", 280, 43.764),
        ("stm32h743", "x-cube-ai", 400, 29.94),
    ],
)
def test_visual_wake_words_rows(board: str, library: str, clock_mhz: float, latency_ms: float) -> None:
    """The rows that depthwise or pointwise rates were made from (MLPerf Tiny, ST model zoo)."""
    assert cycles(board, VWW, library) / (clock_mhz * 1e3) == pytest.approx(latency_ms, rel=1e-3)


def test_training_step_of_tinyengine() -> None:
    """373 ms for 22.824 MMAC at 216 MHz; 3448 ms with the plain kernels."""
    board = load_board("stm32f746")
    for library, seconds in (("tinyengine", 0.373), ("tflite-micro", 3.448)):
        rate = board.rate("conv2d", "bwd_weight", "int8", library).mac_per_cycle.value
        assert 22.824e6 / rate / 216e6 == pytest.approx(seconds, rel=2e-3)


def test_power_of_the_continual_learning_study() -> None:
    assert load_board("vega").operating_point("375MHz").training_power_w.value == pytest.approx(62e-3)
    assert load_board("stm32l476rg").operating_point("80MHz").training_power_w.value == pytest.approx(34.5e-3)
    assert load_board("vega").battery.energy_j == pytest.approx(39204)
