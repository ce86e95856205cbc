"""The dynamic programme against all subsets of places, on tables that no network made."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dse.search.segments import Found, Parts, front, least_work


def by_hand(parts, units):
    """Peak and MACs of one split, segment by segment."""
    nodes = [0, *(parts.units.index(unit) + 1 for unit in units), len(parts.units) + 1]
    kept = macs = 0
    peak = -(10**9)
    for lower, upper in pairwise(nodes):
        peak = max(peak, kept + int(parts.need[lower, upper]))
        kept += int(parts.kept[lower, upper])
        macs += int(parts.macs[lower, upper])
    return peak, macs


def every_split(parts):
    for size in range(len(parts.units) + 1):
        for units in combinations(parts.units, size):
            yield units, *by_hand(parts, units)


def unbeaten(points):
    """Distinct (macs, peak) that no other one beats, work rising."""
    pairs = {(macs, peak) for _, peak, macs in points}
    return sorted(
        pair for pair in pairs if not any(a <= pair[0] and b <= pair[1] and (a, b) != pair for a, b in pairs)
    )


def table(count, values):
    upper = np.triu(np.ones((count + 2, count + 2), dtype=bool), 1)
    found = np.zeros(upper.shape, dtype=np.int64)
    found[upper] = values
    return found


@st.composite
def parts(draw):
    count = draw(st.integers(0, 6))
    edges = (count + 1) * (count + 2) // 2
    need, kept, macs = (
        table(count, draw(st.lists(st.integers(low, 30), min_size=edges, max_size=edges)))
        for low in (1, -3, 0)
    )
    kept[0] = kept[:, -1] = macs[:, -1] = 0
    units = tuple(sorted(draw(st.sets(st.integers(0, 99), min_size=count, max_size=count))))
    return Parts(units, need, kept, macs, 100)


@given(parts())
def test_the_front_is_that_of_all_subsets(given_parts):
    found = front(given_parts)
    assert [(each.macs, each.peak_bytes) for each in found] == unbeaten(every_split(given_parts))
    for each in found:
        assert by_hand(given_parts, each.units) == (each.peak_bytes, each.macs)


@given(parts(), st.integers(0, 60))
def test_the_least_work_within_a_budget_is_that_of_all_subsets(given_parts, budget):
    fitting = [macs for _, peak, macs in every_split(given_parts) if peak <= budget]
    found = least_work(given_parts, budget)
    assert (found.macs if found else None) == (min(fitting) if fitting else None)
    assert found is None or found.peak_bytes <= budget


def test_three_layers_by_hand():
    """Two places. Whole: 30 B. Split at 5: its input of 4 B, 6 MACs again, 22 B above; at 8 as well."""
    need = table(2, [12, 17, 30, 11, 22, 15])  # 0-1, 0-2, 0-end, 1-2, 1-end, 2-end
    kept = table(2, [0, 0, 0, 4, 0, 0])
    macs = table(2, [6, 10, 0, 3, 0, 0])
    case = Parts((5, 8), need, kept, macs, 20)
    # behind 5 alone: max(12, 22); behind 8 alone: max(17, 15), all below again: 10;
    # behind both: max(12, 11, 4 + 15) with 9, beaten by neither.
    assert front(case) == (Found((), 30, 0), Found((5,), 22, 6), Found((5, 8), 19, 9), Found((8,), 17, 10))
    assert least_work(case, 21) == Found((5, 8), 19, 9)
    assert least_work(case, 16) is None


def test_of_equal_work_the_fewest_segments_are_taken():
    nothing = table(1, [0, 0, 0])
    assert front(Parts((3,), table(1, [9, 9, 9]), nothing, nothing, 5)) == (Found((), 9, 0),)
