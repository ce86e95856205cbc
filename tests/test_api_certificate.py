"""Certificates by name: points of a run, plans, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import dse
from dse.api.certificate import point_of
from dse.errors import UserError

SPACE = {
    "name": "two boards", "networks": ["ds-cnn"], "boards": ["stm32l4r5", "nrf52840"],
    "objectives": ["ram_peak_bytes", "event_j"],
    "choices": {
        "cut": ["last", 8], "n_replays": [20, 40], "replay_bits": [8], "batch": [[2, 6]],
        "micro_batch": [1, "batch"], "images_per_event": [20], "operating_point": "all",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dse.write_run(dse.explore(SPACE), tmp_path_factory.mktemp("runs"))


def test_names_and_numbers_of_points_mean_the_design_of_the_front(run: Path) -> None:
    best = point_of(run, "runs", board="stm32l4r5")
    named = dse.explore(SPACE).boards[0].front.named
    assert best.name == named[0].name
    assert best.design == named[0].design
    assert point_of(run, "runs", "smallest", "stm32l4r5").design == named[2].design
    other = point_of(run, "runs", str(best.design))
    assert other.decided == best.decided
    assert other.context.board.name == "stm32l4r5"


def test_the_plan_of_a_point_costs_what_the_front_says(run: Path) -> None:
    point = point_of(run, "runs", "balanced", "nrf52840")
    front = dse.explore(SPACE).boards[1].front
    row = front.index.tolist().index(point.design)
    found = dse.certify_point(run, "balanced", board="nrf52840", execute=False)
    assert found.certificate.promised_bytes == front.columns["ram_peak_bytes"][row]
    assert found.certificate.holds
    assert found.folder == run / "plan-balanced"


@pytest.mark.parametrize(("point", "board", "said"), [
    ("worst", "stm32l4r5", "--point"), ("best", "", "--board"), ("best", "esp32-s3", "--board"),
    ("999999", "", "--point"), ("-1", "stm32l4r5", "--point"), ("1" * 40, "stm32l4r5", "--point"),
])  # fmt: skip
def test_points_that_do_not_exist_are_refused(run: Path, point: str, board: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        point_of(run, "runs", point, board)


@pytest.mark.parametrize("alignment", [0, 3, -4, 8192])
def test_alignments_that_are_no_powers_of_two_are_refused(alignment: int) -> None:
    with pytest.raises(UserError, match="alignment"):
        dse.certify("ds-cnn", "stm32l4r5", alignment=alignment, execute=False)


def test_a_map_keeps_the_promise_of_the_estimate() -> None:
    decisions = {"cut": 8, "n_replays": 30, "batch": [2, 2], "images_per_event": 10}
    promised = dse.estimate("ds-cnn", "stm32l4r5", intervals=False, **decisions)
    found = dse.certify("ds-cnn", "stm32l4r5", execute=False, **decisions)
    assert found.promised_bytes == promised.costs.ram_peak_bytes[0] == found.ram_peak_bytes


def test_words_say_what_is_decided_and_nothing_else() -> None:
    found = dse.certify(
        "ds-cnn", "stm32f746", execute=False, cut=4, policy="sparse 2 6:0.5", learning_dtype="int8",
        replay="none", batch=[2, 0], saved_bits=4, images_per_event=10,
    )  # fmt: skip
    words = dict(part.split(" = ", 1) for part in found.plan_words)
    assert words["policy"] == "sparse 2 6:0.5"
    assert words["saved_bits"] == "4"
    assert words["batch"] == "2 new + 0 replays"
    assert "weight_rounding" not in words
