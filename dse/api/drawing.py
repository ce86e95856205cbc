"""What was found, as a figure: a plan, a memory map, a front, a study, schemes, a calibration, boards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dse.calibrate import Calibration
from dse.cost.explain import Explanation
from dse.report.certificate import Certificate
from dse.report.comparison import BoardComparison
from dse.search import SearchResult
from dse.search.schemes.selection import Selection
from dse.validation.contribute_table import ContributionTable
from dse.validation.study_run import StudyResult

Drawable = (
    Explanation | Certificate | SearchResult | StudyResult | Selection | ContributionTable
    | Calibration | BoardComparison
)  # fmt: skip


def draw(what: Drawable, board: str = "") -> Any:
    """Return a matplotlib figure of a result; ``board`` chooses among the fronts of an exploration."""
    if isinstance(what, SearchResult):
        return _front(what, board)
    return _DRAWN[type(what)](what)


def _front(found: SearchResult, board: str) -> Any:
    """Draw the front on ``board``, else on the first."""
    import numpy as np

    from dse.report.figures import front_figure
    from dse.report.front_info import front_info
    from dse.report.summary import completeness

    labels = [result.board for result in found.boards]
    number = labels.index(board) if board else 0
    result = found.boards[number]
    others = np.zeros((0, len(found.space.objectives)))
    if found.complete:
        others = _thinned(found, number)
    title = f"{found.space.name}: {result.board}"
    return front_figure(front_info(result, others, title, completeness(found)))


def _thinned(found: SearchResult, board: int) -> Any:
    """Return the objectives of some feasible designs of a board, evenly by index."""
    from dse.report.designs import design_chunks, sampled_values

    chunks = ((board, chunk) for chunk in design_chunks(found.space, board, everything=False))
    return sampled_values({board: found.boards[board].counts.feasible}, chunks)[board]


def _explanation(what: Explanation) -> Any:
    from dse.report.figures import explanation_figure

    return explanation_figure(what)


def _memory_map(what: Certificate) -> Any:
    from dse.report.certificate.map_info import map_info
    from dse.report.figures import memory_map_figure

    return memory_map_figure(map_info(what))


def _study(what: StudyResult) -> Any:
    from dse.report.figures.study import study_figure

    return study_figure(what.study.title, what.study.figure, what.summary())


def _selection(what: Selection) -> Any:
    from dse.report.figures.selection import selection_figure
    from dse.report.selection import named_schemes

    return selection_figure(what, named_schemes(what))


def _contributions(what: ContributionTable) -> Any:
    from dse.report.figures.contributions import contribution_figure

    return contribution_figure(what)


def _calibration(what: Calibration) -> Any:
    from dse.report.figures.calibration import calibration_figure, calibration_info

    return calibration_figure(calibration_info(what))


def _comparison(what: BoardComparison) -> Any:
    from dse.report.figures.comparison import comparison_figure, comparison_info

    return comparison_figure(comparison_info(what))


_DRAWN: Final[dict[type, Callable[[Any], Any]]] = {
    Explanation: _explanation, Certificate: _memory_map, StudyResult: _study, Selection: _selection,
    ContributionTable: _contributions, Calibration: _calibration, BoardComparison: _comparison,
}  # fmt: skip
