"""A new board: what was given stands in it, what was borrowed is assumed and wider."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from dse.errors import UnknownName, UserError
from dse.hardware import load_board
from dse.hardware.new import OWN, WIDER, Facts, cores, lender, new_board
from dse.reference import load_table
from dse.vocabulary import Evidence

FACTS = Facts(
    name="mine",
    like="stm32l4r5",
    clock_hz=80e6,
    level_bytes={"SRAM": 131072, "flash": 524288},
    power_w=0.024,
    source="data sheet",
)


def test_given_numbers_stand_in_it_with_the_source() -> None:
    numbers = dict(new_board(FACTS).numbers())
    given = {path: each.value for path, each in numbers.items() if each.source == OWN}
    assert given == {
        "memory.SRAM.size_bytes": 131072.0,
        "memory.flash.size_bytes": 524288.0,
        "operating_point.80MHz.clock_hz": 80e6,
        "operating_point.80MHz.inference_power_w": 0.024,
    }


def test_borrowed_numbers_are_assumed_and_wider() -> None:
    donor, mine = dict(load_board("stm32l4r5").numbers()), new_board(FACTS)
    checked = 0
    for path, each in mine.numbers():
        if each.included or path not in donor or path.startswith(("battery", "worker_cores")):
            continue
        if each.source == OWN:
            continue
        theirs = donor[path]
        assert each.kind is Evidence.ASSUMED, path
        assert each.value == theirs.value
        assert each.low_value == pytest.approx(theirs.low_value / WIDER), path
        limit = 1.0 if path.endswith("_fraction") else theirs.high_value * WIDER
        assert each.high_value == pytest.approx(min(limit, theirs.high_value * WIDER)), path
        checked += 1
    assert checked > 60


def test_the_widening_covers_what_boards_of_one_core_differ_by() -> None:
    """Recomputed from the published rows: same Cortex-M core, library, dtype and task on different boards."""
    cycles: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for row in load_table("mlperf_tiny"):
        if row["core"].startswith("cortex-m") and row["latency_ms"]:
            key = (row["core"], row["kernels"], row["dtype"], row["task"])
            each = float(row["latency_ms"]) * float(row["clock_mhz"]) * 1e3 / float(row["macs"])
            cycles.setdefault(key, {}).setdefault(row["board"].lower(), []).append(each)
    means = [[sum(v) / len(v) for v in boards.values()] for boards in cycles.values()]
    ratios = [max(a, b) / min(a, b) for each in means for a, b in combinations(each, 2)]
    assert len(ratios) >= 20
    assert 1.4 < max(ratios) <= WIDER


def test_a_reserve_stays_within_a_small_memory() -> None:
    board = new_board(replace(FACTS, level_bytes={"SRAM": 16384, "flash": 65536}))
    for level in board.levels:
        assert level.reserve_bytes is not None
        assert 0 < level.reserve_bytes.value <= level.reserve_bytes.high_value <= level.size_bytes.value


def test_a_level_of_size_zero_is_left_out() -> None:
    facts = replace(FACTS, like="stm32l476rg", level_bytes={"SRAM": 65536, "SRAM2": 0, "flash": 262144})
    board = new_board(facts)
    assert [level.name for level in board.levels] == ["SRAM", "flash"]
    assert all("SRAM2" not in state.retains for state in board.sleep_states)


def test_mistakes_come_together() -> None:
    with pytest.raises(UserError) as caught:
        new_board(replace(FACTS, clock_hz=0.0, power_w=-1.0, level_bytes={"SRAN": 1.0}, source=" "))
    text = str(caught.value)
    for part in ("--clock-mhz", "--power-mw", "unknown level 'SRAN'; did you mean 'SRAM'", "no size for SRAM",
                 "no size for flash", "no memory that can be written", "--source"):  # fmt: skip
        assert part in text


def test_the_lender_has_the_core() -> None:
    assert lender("cortex-m7").core == "cortex-m7"
    assert lender("cortex-m4", "nrf52840").name == "nrf52840"
    assert set(cores()["riscv-pulp"]) == {"gap8", "gap9", "vega"}
    with pytest.raises(UserError, match="vega has the core riscv-pulp; one of"):
        lender("cortex-m4", "vega")
    with pytest.raises(UnknownName, match="did you mean 'cortex-m4'"):
        lender("cortex-m45")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"level_bytes": {"SRAM": 131072, "flash": 0}}, "no memory for the program; a size for flash"),
        ({"level_bytes": {"SRAM": 1e-6, "flash": 524288}}, "--level: SRAM="),
        ({"level_bytes": {"SRAM": float("inf"), "flash": 524288}}, "--level: SRAM=inf"),
        ({"sleep_power_w": 1e302}, "--sleep-uw"),
        ({"power_w": 1e302}, "--power-mw"),
    ],
)
def test_numbers_that_no_board_has(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        new_board(replace(FACTS, **changes))  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_rates_do_not_name_a_memory_that_is_left_out() -> None:
    facts = replace(FACTS, like="vega", level_bytes={"L1": 0, "L2": 524288, "MRAM": 4194304})
    assert {rate.weights_in for rate in load_board("vega").rates} >= {"L1"}
    assert {rate.weights_in for rate in new_board(facts).rates} <= {"", "L2", "MRAM"}
