"""Certificates by name: points of a run, plans, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import dse
from dse.api.certificate import certify_plan, point_of
from dse.api.context import context_of, decided
from dse.errors import UserError
from dse.report.certificate.header import prefix_of
from dse.report.certificate.remedies import changes_for
from dse.vocabulary import Role
from tests.plan.strategies import TCN, UNEVEN

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
    named = dse.explore(SPACE).boards[0].front.named
    best = point_of(run, "runs", named[0].name, "stm32l4r5")
    assert best.name == named[0].name
    assert best.design == named[0].design
    assert point_of(run, "runs", "smallest", "stm32l4r5").design == named[2].design
    other = point_of(run, "runs", str(best.design))
    assert other.decided == best.decided
    assert other.context.board.name == "stm32l4r5"


@pytest.mark.parametrize("objectives", [
    ["ram_peak_bytes", "event_j", "event_s"], ["event_s", "ram_peak_bytes"],
])  # fmt: skip
def test_the_best_point_is_best_in_the_first_objective(objectives: list[str], tmp_path: Path) -> None:
    """Also where that is the RAM peak, of which the first name of a front is not."""
    space = {
        "name": "small", "networks": ["mcunet-5fps@resolution=96"], "boards": ["stm32l476rg"],
        "objectives": objectives, "accuracy": "none",
        "choices": {
            "replay": "latent", "cut": "last", "n_replays": 375, "replay_bits": [7, 8], "batch": [[21, 107]],
            "micro_batch": [1, 8, "batch"], "images_per_event": 300, "operating_point": "all",
            "new_samples": ["cache_latent", "recompute"],
        },
    }  # fmt: skip
    found = dse.explore(space)
    front = found.boards[0].front
    best = point_of(dse.write_run(found, tmp_path), "runs")
    values = dict(zip(front.index.tolist(), front.columns[objectives[0]].tolist(), strict=True))
    assert len(set(values.values())) > 1
    assert values[best.design] == min(values.values())


def test_a_named_design_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    place = dse.write_run(dse.explore(SPACE), tmp_path)
    content = json.loads((place / "run.json").read_text())
    for design in (10**9, -1):
        content["boards"]["nrf52840"]["named"]["balanced"] = design
        (place / "run.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=f"design {design} is called balanced; a design of the space"):
            point_of(place, "runs", "balanced", "nrf52840")


CLAIMS = {
    "narrow weights move": ("mcunet-5fps", "stm32f746", {"policy": "last-3", "cut": 38, "micro_batch": 4}),
    "another cut moves": (
        "har-cnn-1d", "stm32l476rg",
        {"cut": "input", "replay": "raw", "micro_batch": 4, "optimiser": "momentum"},
    ),
    "int8": ("ds-cnn", "stm32l4r5", {"cut": 4, "learning_dtype": "int8", "micro_batch": 4}),
    "head": ("ds-cnn", "stm32l4r5", {"head": "slda"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_what_would_lower_a_peak_lowers_it_to_the_byte(name: str) -> None:
    """Every change that is listed, decided as a reader would, leaves the live bytes that are stated."""
    network, board, decisions = CLAIMS[name]
    context = context_of(network, board)
    chosen = decided(context, None, decisions)
    found = certify_plan(context, chosen)
    plans = {
        change.words: change.plan
        for peak in found.peaks
        for row in peak.rows
        for change in changes_for(row.placed.buffer, found.map.schedule)
    }
    claims = {
        (peak.level, remedy.change): (remedy.peak_bytes, peak.live_bytes)
        for peak in found.peaks
        for row in peak.rows
        for remedy in row.remedies
    }
    assert claims
    for words in {words for _, words in claims}:
        changed = replace(chosen, plan=plans[words])
        levels = {level.level: level.live_bytes for level in certify_plan(context, changed).levels}
        for (level, said), (promised, now) in claims.items():
            if said == words:
                assert promised == levels.get(level, 0), (level, words)
                assert promised < now


@pytest.mark.parametrize("decisions", [
    {"in_place": "depthwise"}, {"learning_dtype": "int8"}, {"patches": "2x2 to 2"},
    {"checkpoints": "every 2", "saved_bits": 4},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("network", [TCN, UNEVEN], ids=["tcn", "uneven"])
def test_dilated_and_unevenly_padded_networks_are_placed_and_executed(
    network: str, decisions: dict[str, object]
) -> None:
    few = {"cut": 3, "batch": [2, 2], "micro_batch": 2, "n_replays": 4, "images_per_event": 4}
    found = dse.certify(network, "stm32l4r5", **few, **decisions)
    assert found.holds
    assert "equal bit by bit to the same step outside the arenas" in found.executed


def test_the_plan_of_a_point_costs_what_the_front_says(run: Path) -> None:
    point = point_of(run, "runs", "balanced", "nrf52840")
    front = dse.explore(SPACE).boards[1].front
    row = front.index.tolist().index(point.design)
    found = dse.certify_point(run, "balanced", board="nrf52840", execute=False)
    assert found.certificate.promised_bytes == front.columns["ram_peak_bytes"][row]
    assert found.certificate.holds
    assert found.folder == run / "plan-balanced"
    assert prefix_of(found.certificate) == "DSE_DS_CNN_NRF52840_BALANCED_"


def test_labels_that_are_not_counted_stand_outside() -> None:
    found = dse.certify(
        "har-cnn-1d", "stm32l476rg", preset="qlr-cl", cut=3, batch=[2, 2], n_replays=4, images_per_event=4
    )
    assert not any(placed.buffer.role == Role.LABELS for placed in found.map.entries)
    assert "(labels outside: the accounting does not count them)" in found.executed
    assert found.holds


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
