"""Which designs no other design beats: every design priced, or a sample of them.

``explore`` picks the searcher that a space asks for. A searcher takes a space and returns a
``SearchResult``; it is listed in ``SEARCHERS`` under the name that a space file uses. ``explore_measured``
is the search of a space whose accuracy comes from training runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from dse.accuracy.features import LearningPoint
from dse.errors import Problem, UnknownName, UserError
from dse.search.arenas import certified
from dse.search.exact import Progress, explore_exact
from dse.search.learning import Candidates, candidates_of
from dse.search.measured import Evaluate, Measurement, measure
from dse.search.result import BoardResult, Counts, Front, SearchResult
from dse.search.space import Space, load_space
from dse.search.study import SAMPLERS, explore_study

Searcher = Callable[..., SearchResult]

SEARCHERS: Final[dict[str, Searcher]] = {
    "exact": explore_exact,
    **{name: partial(explore_study, sampler=name) for name in SAMPLERS},
}
"""Name of a method -> ``(space, *, progress) -> SearchResult``."""


def method_for(space: Space, method: str = "") -> str:
    """Return the searcher that ``space`` asks for; ``auto`` is exact up to its limit and NSGA-II beyond.

    Raises UserError where an exact search is asked for beyond the limit, UnknownName for another method.
    """
    method = method or space.search.method
    if method == "auto":
        return "exact" if space.size <= space.search.exact_limit else "nsga2"
    if method not in SEARCHERS:
        raise UnknownName("search method", method, ("auto", *SEARCHERS), key="search.method")
    if method == "exact" and space.size > space.search.exact_limit:
        found = f"an exact search of {space.size:,} designs"
        allowed = f"at most exact_limit = {space.search.exact_limit:,}: raise it, or search by sampling"
        raise UserError(Problem(space.name, "search.method", found, allowed))
    return method


def explore(space: Space, *, method: str = "", progress: Progress | None = None) -> SearchResult:
    """Search ``space`` with ``method``, or as the space says; every point of a front is placed in memory."""
    searcher = SEARCHERS[method_for(space, method)]
    return certified(space, lambda some: searcher(some, progress=progress))


def explore_measured(
    space: Space,
    candidates: Candidates,
    evaluate: Evaluate,
    storage: Any,
    *,
    method: str = "",
    data: str = "",
    progress: Progress | None = None,
) -> SearchResult:
    """Search ``space`` by measured accuracy: training runs first (``measure``), then every design exactly.

    Fronts get a column ``accuracy_runs``: how many runs are behind the accuracy of a design.
    Raises UserError where ``method`` is not an exact search.
    """
    require_exact(space, method)
    measurement = measure(space, candidates, evaluate, storage, data=data, progress=progress)
    found = certified(replace(space, accuracy=measurement.source), explore_exact)
    boards = tuple(
        replace(board, front=_with_runs(found, board.front, measurement)) for board in found.boards
    )
    return replace(found, boards=boards, measurement=measurement)


def require_exact(space: Space, method: str = "") -> None:
    """Raise UserError unless ``space`` is searched exactly, as measured accuracy needs it."""
    if method_for(space, method) != "exact":
        found = f"{method or space.search.method} with measured accuracy"
        allowed = "exact: what is sampled are the runs ('proposals' in the table measure)"
        raise UserError(Problem(space.name, "search.method", found, allowed))


def _with_runs(found: SearchResult, front: Front, measurement: Measurement) -> Front:
    """Return ``front`` with the number of runs behind each accuracy."""
    counts = []
    for design in front.index.tolist() if len(front) else ():
        block = found.space.block_of(design)
        choice = found.plan(design)
        counts.append(measurement.source.count(LearningPoint.of(block.context.workload, choice.plan)))
    columns: dict[str, Any] = {}
    for name, column in front.columns.items():
        columns[name] = column
        if name == "accuracy_status":
            columns["accuracy_runs"] = np.array(counts, dtype=np.int64)
    return replace(front, columns=columns)


__all__ = [
    "SEARCHERS",
    "BoardResult",
    "Candidates",
    "Counts",
    "Evaluate",
    "Front",
    "Measurement",
    "Progress",
    "SearchResult",
    "Searcher",
    "Space",
    "candidates_of",
    "explore",
    "explore_exact",
    "explore_measured",
    "explore_study",
    "load_space",
    "method_for",
    "require_exact",
]
