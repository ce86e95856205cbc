"""The nearest miss does not depend on the order in which designs arrive, nor on what is skipped."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dse.search.relaxation import NOBODY, Nearest

EXCESS = st.sampled_from([0.0, 0.5, 1.0, 2.0, np.inf])
ROWS = st.lists(st.tuples(st.lists(EXCESS, min_size=1, max_size=3), st.booleans()), min_size=1, max_size=8)


def best_of(rows: list[tuple[list[float], bool]], only_known: bool) -> tuple[float, int]:
    """Least finite excess, then lowest index, over rows of three designs each."""
    designs = [
        (excess, 3 * row + column)
        for row, (values, known) in enumerate(rows)
        for column, excess in enumerate(values)
        if np.isfinite(excess) and (known or not only_known)
    ]
    return min(designs, default=NOBODY)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_least_excess_with_the_lowest_index_wins_in_any_order(
    rows: list[tuple[list[float], bool]], random: np.random.Generator
) -> None:
    nearest = Nearest()
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[arg-type]
    for row in order:
        values, known = rows[row]
        least = np.array([min(values)])  # the tightest bound there is
        if nearest.may_improve(least, np.array([known]))[0]:
            index = 3 * row + np.arange(len(values))
            nearest.offer(np.array(values), index, np.full(len(values), known))
    assert nearest.any == best_of(rows, only_known=False)
    assert nearest.known == best_of(rows, only_known=True)
    assert nearest.best == (nearest.known if nearest.known != NOBODY else nearest.any)


def test_where_accuracy_does_not_matter_all_designs_count() -> None:
    nearest = Nearest()
    nearest.offer(np.array([[2.0, 1.0]]), np.array([[7, 8]]), None)
    assert nearest.best == nearest.known == nearest.any == (1.0, 8)
