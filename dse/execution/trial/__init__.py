"""A plan tried out: on random numbers, executed inside the arenas of its map and outside of them."""

from dse.execution.trial.result import Trial
from dse.execution.trial.run import MOST_MACS, trial
from dse.execution.trial.step import Outcome, Step, prepared_step

__all__ = ["MOST_MACS", "Outcome", "Step", "Trial", "prepared_step", "trial"]
