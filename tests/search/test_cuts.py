"""What became of each cut, against the counts and the prices of every design."""

from __future__ import annotations

import numpy as np
import pytest

from dse.hardware import load_board
from dse.search import explore_exact
from dse.search.table import design_table
from tests.search.spaces import CORE50, TINY, space


@pytest.mark.parametrize("ram_kib", [None, 24])
def test_every_legal_sgd_design_is_counted_under_its_cut(ram_kib: int | None) -> None:
    budgets = {} if ram_kib is None else {"ram_peak_kib": ram_kib}
    found = explore_exact(space(TINY, budgets=budgets, choices={"head": "sgd"})).boards[0]
    assert sum(fate.feasible for fate in found.cuts) == found.counts.feasible
    legal = found.counts.evaluated - sum(found.counts.illegal.values())
    assert sum(fate.designs for fate in found.cuts) == legal


def test_the_least_ram_of_a_cut_is_that_of_its_cheapest_design() -> None:
    always_legal = {"head": "sgd", "micro_batch": 1, "update": "accumulate", "images_per_event": 20}
    mine = space(TINY, choices={**always_legal, "replay": "latent", "cut": [0, 1, "last"]})
    found = explore_exact(mine).boards[0]
    table = design_table(mine, 0, np.arange(mine.size))
    for fate in found.cuts:
        here = table["cut"] == fate.cut
        cheapest = table["ram_peak_bytes"][here].min()
        assert fate.least_ram_bytes == cheapest if fate.feasible else 0 < fate.least_ram_bytes <= cheapest


def test_with_an_accuracy_axis_only_known_designs_count() -> None:
    found = explore_exact(space(CORE50)).boards[0]
    assert [fate.cut for fate in found.cuts] == [21, 23, 25, 27]
    by_cut = {fate.cut: fate for fate in found.cuts}
    assert by_cut[21].feasible == 0  # batch statistics over 128 samples leave no room
    assert by_cut[21].least_ram_bytes > 64 * 1024**2
    assert by_cut[27].feasible > 0
    # 11 of 13 sizes are inside the study, with three widths; floor rounding is outside.
    points = len(load_board("vega").operating_points)
    assert by_cut[27].designs == 11 * 3 * points
