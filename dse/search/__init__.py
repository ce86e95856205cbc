"""Which designs no other design beats: every design priced, or a sample of them.

``explore`` picks the searcher that a space asks for. A searcher takes a space and returns a
``SearchResult``; it is listed in ``SEARCHERS`` under the name that a space file uses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from dse.errors import Problem, UnknownName, UserError
from dse.search.exact import Progress, explore_exact
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
    """Search ``space`` with ``method``, or as the space says; see ``method_for``."""
    return SEARCHERS[method_for(space, method)](space, progress=progress)


__all__ = [
    "SEARCHERS",
    "BoardResult",
    "Counts",
    "Front",
    "Progress",
    "SearchResult",
    "Searcher",
    "Space",
    "explore",
    "explore_exact",
    "explore_study",
    "load_space",
    "method_for",
]
