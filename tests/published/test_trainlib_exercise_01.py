"""PULP-TrainLib tutorial, exercise 01 (simulator): whole training steps from their kernels."""

from __future__ import annotations

import pytest

from dse.reproduce import comparison_text
from dse.reproduce.trainlib import CYCLES, RATE, reproduce

STUDY = reproduce()


@pytest.mark.parametrize("cores", ["1 core", "8 cores"])
def test_whole_step_within_5_percent(cores: str) -> None:
    row = STUDY.row(f"exercise 01, {cores}", CYCLES)
    assert abs(row.error) < 0.05, comparison_text(row)
    assert all(abs(row.error) < abs(row.null_error(name)) for name in row.null_models), comparison_text(row)


def test_resnet8_rate_within_20_percent_and_ds_cnn_far_off() -> None:
    resnet8, ds_cnn = (STUDY.row(f"{name} fp16, 8 cores", RATE) for name in ("ResNet8", "DS-CNN"))
    assert abs(resnet8.error) < 0.2, comparison_text(resnet8)
    assert ds_cnn.error > 1.0, f"agrees now; tell so in the summary: {comparison_text(ds_cnn)}"


def test_the_summary_says_where_the_model_loses() -> None:
    lost = [line for line in STUDY.summary if "loses to its null model" in line]
    assert any(RATE in line for line in lost), lost
    assert not any(CYCLES in line for line in lost), lost
