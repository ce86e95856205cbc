"""Whether a plan's kernels unfold their inputs as those did whose rates a board states."""

from __future__ import annotations

import numpy as np

from dse.cost.context import Context
from dse.errors import Problem, Unpriced
from dse.plan.decisions import IM2COL, LEARNING_DTYPES, PlanBatch
from dse.plan.workspace import WorkspaceTable, unfolding, workspace_bytes
from dse.vocabulary import DTYPE_BYTES
from dse.workload import Unit
from dse.workload.base import MAC_PASSES

FROZEN_DTYPES = {8: "int8", 32: "fp32"}


def require_measured_kernels(context: Context, plans: PlanBatch) -> None:
    """Raise Unpriced where a plan decides for another unfolding than the library's: nobody measured that.

    Kernels that unfold nothing either way keep their rates.
    """
    for code in np.unique(plans.im2col):
        word = IM2COL[code]
        rows = plans.im2col == code
        dtypes = {LEARNING_DTYPES[int(one)] for one in np.unique(plans.learning_dtype[rows])}
        dtypes |= {FROZEN_DTYPES[int(bits)] for bits in np.unique(plans.frozen_bits[rows])}
        other = unfolding(context.workspace, word)
        for unit in context.workload.units if word != IM2COL[0] else ():
            for dtype in sorted(dtypes):
                _require_same(context, other, unit, dtype, word)


def _require_same(context: Context, other: WorkspaceTable, unit: Unit, dtype: str, word: str) -> None:
    width, cores = DTYPE_BYTES[dtype], context.board.cores
    for pass_ in MAC_PASSES:
        sizes = [
            workspace_bytes(table, unit, pass_, dtype, width, cores) for table in (context.workspace, other)
        ]
        if sizes[0] != sizes[1]:
            found = f"no figure for {unit.operator}, {pass_}, {dtype} with im2col = {word!r}"
            allowed = "im2col = 'library': rates are of the kernels that unfold as their library does"
            raise Unpriced(Problem(context.board.label, "rate", found, allowed))
