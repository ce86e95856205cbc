"""What changes how long buffers live: in-place layers, checkpoints, narrow saved values, im2col, patches.

- ``in_place``     element-wise layers write over their input; or nobody does; or, in the frozen stage and in
                   inference, stride-1 depthwise convolutions too, one channel at a time (arXiv 2110.15352).
- ``checkpoints``  the learning stage is split; all but the last segment keep nothing but their input and run
                   forward again before their backward pass (arXiv 1604.06174).
- ``saved_bits``   saved activations are held in 8, 4 or 2 bits, with a scale per tensor, and widened when the
                   backward pass reads them; the forward pass is as it was.
- ``im2col``       inputs are unfolded as the kernel library does, not at all, or one sample as a whole.
- ``patches``      the first layers run patch by patch (arXiv 2110.15352).

They are carried by the schedule (``dse.plan.structure``, ``dse.plan.schedule``): the step needs no edit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from dse.errors import Problem
from dse.plan.decisions import (
    AS_COMPUTED,
    IN_PLACE,
    LEARNING_DTYPES,
    LIFESPAN_CHOICES,
    SAVED_BITS,
    BoolArray,
    PlanBatch,
)
from dse.plan.patches import refusal
from dse.plan.spec import StepSpec
from dse.plan.structure import Checkpoints, Patches
from dse.vocabulary import DTYPE_BYTES
from dse.workload import Workload

CHOICES = LIFESPAN_CHOICES

MISPLACED: Final = "the learning stage cannot be split there: a single tensor above the cut has to cross"


def illegal(workload: Workload, plans: PlanBatch) -> dict[str, BoolArray]:
    """Refuse splits and patches where the network has none, and widths that save nothing."""
    widths = 8 * np.array([DTYPE_BYTES[name] for name in LEARNING_DTYPES])[plans.learning_dtype]
    narrow = plans.saved_bits != AS_COMPUTED
    by_patches = plans.patches > 0
    reasons = {
        "saved bits other than 2, 4, 8 or 32": ~np.isin(plans.saved_bits, SAVED_BITS),
        "saved bits of the width that is computed in (32 stands for it)": narrow
        & (plans.saved_bits >= widths),
        "patches reach above the cut: the learning stage needs whole tensors": by_patches
        & (plans.patches // Patches(0, 1).code > plans.cut),
        "patches overlap: no depthwise layer can overwrite its input (in_place = depthwise)": by_patches
        & (plans.in_place == IN_PLACE.index("depthwise")),
        MISPLACED: np.array([bool(units) for units in _misfits(workload, plans)], dtype=bool),
    }
    for code in np.unique(plans.patches[by_patches]):
        patches = Patches.of_code(int(code))
        reason = "" if patches is None else refusal(workload, patches)
        if reason:
            reasons[reason] = plans.patches == code
    return reasons


def _misfits(workload: Workload, plans: PlanBatch) -> list[tuple[int, ...]]:
    """Units of each plan's list of checkpoints behind which the learning stage cannot be split."""
    if not plans.checkpoints:
        return [()] * len(plans)
    pairs = zip(plans.checkpoints, plans.cut.tolist(), strict=True)
    return [
        each.misfits(workload, _cut_layer(workload, cut)) if each.units else () for each, cut in pairs
    ]  # fmt: skip


def _cut_layer(workload: Workload, cut: int) -> int:
    return workload.units[cut].cut_layer if 0 <= cut < len(workload.units) else -1


def _word(cut: int) -> str:
    return str(cut) if cut >= 0 else "input"


def refusals(workload: Workload, plans: PlanBatch, file: str) -> Iterator[Problem]:
    """Yield which checkpoints of the only plan of ``plans`` do not fit, and where there are places."""
    units = _misfits(workload, plans)[0]
    if not units:
        return
    cut = int(plans.cut[0])
    places = Checkpoints(every=1).places(workload, _cut_layer(workload, cut))
    wrong = f"unit{'s' if len(units) > 1 else ''} {' '.join(map(str, units))}"
    allowed = f"behind units {' '.join(map(str, places))}" if places else "'none': there is no place above"
    yield Problem(file, "checkpoints", f"{MISPLACED} (not so behind {wrong}, with cut {_word(cut)})", allowed)


def edit(spec: StepSpec, workload: Workload, plans: PlanBatch) -> StepSpec:
    """Leave the step as it is: its schedule reads these decisions."""
    return spec
