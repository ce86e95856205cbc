"""Kernels that calibrate and steps that are predicted, in simulation."""

from __future__ import annotations

import pytest

from dse.reproduce import trainlib
from dse.workload import load_network

STUDY = trainlib.reproduce()
UPDATE = {1: (1152 + 18432) * 4, 8: (1152 + 18432) * 4 / 8}


@pytest.mark.parametrize(
    ("cores", "kernels"),
    [(1, 192390 + 5686 + 74805 + 174306 + 6550 + 198573), (8, 27668 + 917 + 11784 + 23937 + 1038 + 28923)],
)
def test_a_step_is_its_six_kernels_and_the_update(cores: int, kernels: int) -> None:
    assert trainlib.step_cycles(cores) == pytest.approx(kernels + UPDATE[cores], rel=1e-9)


def test_steps_are_predicted_and_kernels_are_not() -> None:
    rows = STUDY.rows
    assert all(not row.calibrated for row in rows if row.quantity == trainlib.CYCLES)
    exercise_01 = [
        row for row in rows if row.quantity == trainlib.KERNEL_CYCLES and "exercise" not in row.name
    ]
    assert len(exercise_01) == 12
    assert all(row.calibrated for row in exercise_01)


def test_the_first_unit_of_a_step_has_no_input_gradient() -> None:
    macs = trainlib.step_macs(load_network("resnet8"))
    assert sum(macs.values()) == 3 * 12_501_632 - 442_368


def test_dense_networks_run_at_the_dense_rate() -> None:
    dense = 16384 / 4620
    assert trainlib.fp16_mac_per_cycle(load_network("resnet8")) == pytest.approx(dense)
    assert trainlib.fp16_mac_per_cycle(load_network("ds-cnn")) < 0.8 * dense


def test_times_without_a_clock_are_listed_as_unpredicted() -> None:
    lines = STUDY.unpredicted
    assert [line.split(",")[0] for line in lines] == ["ResNet8", "DS-CNN"]
    assert "697 MHz" in lines[0]


def test_a_kernel_that_nobody_published_is_an_error() -> None:
    with pytest.raises(KeyError, match="depthwise"):
        trainlib.kernel("depthwise", "FW", 8)
