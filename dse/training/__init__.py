"""Short real training runs in PyTorch: streams, replay buffers that hold real bits, and the engine.

Nothing here knows what a plan costs or what was predicted for it. PyTorch is the extra ``[train]`` and is
imported when a run starts.
"""

from __future__ import annotations

from importlib.util import find_spec

from dse.errors import Problem, UserError
from dse.training.record import RunRecord
from dse.training.task import Job, Task

EXTRA = "pip install 'tinyml-dse[train]'"


def require_torch() -> None:
    """Raise UserError, naming the extra, where PyTorch is not installed."""
    if find_spec("torch") is None:
        raise UserError(Problem("training", "", "PyTorch is not installed", EXTRA))


__all__ = ["EXTRA", "Job", "RunRecord", "Task", "require_torch"]
