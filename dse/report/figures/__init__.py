"""Figures: a result is first put into an ``Info`` (plain arrays), which is then drawn on axes."""

from matplotlib.figure import Figure

from dse.cost.explain import Explanation
from dse.report.bar_info import energy_info, memory_info, time_info, unit_info
from dse.report.figures.bars import cause_figure, memory_figure, plan_figure, units_figure
from dse.report.figures.front import front_figure
from dse.report.figures.memory_map import memory_map_figure
from dse.report.figures.style import save, save_all


def explanation_figure(explanation: Explanation) -> Figure:
    """Draw one plan on one page."""
    title = f"{explanation.context.workload.name} on {explanation.context.board.label}: memory at the peak"
    return plan_figure(
        memory_info(title, {"": explanation}),
        time_info("", {"time": explanation}),
        energy_info("", {"energy": explanation}),
        unit_info("event", explanation),
    )


__all__ = [
    "cause_figure",
    "explanation_figure",
    "front_figure",
    "memory_figure",
    "memory_map_figure",
    "plan_figure",
    "save",
    "save_all",
    "units_figure",
]
