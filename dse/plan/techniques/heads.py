"""Heads over a frozen network: nearest class mean, streaming LDA, CWR* and TinyOL.

With d features and C classes, all in fp32:

- ``ncm``    C means and counts; per sample d additions.
- ``slda``   NCM plus one shared d x d covariance: a rank-1 update (d^2 MACs) per sample; once per event the
             shrunk covariance is inverted (d^3 MACs) and multiplied with the means (C d^2 MACs).
             Hayes and Kanan, CVPR-W 2020 (arXiv 1909.01520), Sec. 3.
             Each of the d elimination steps passes over the whole matrix.
- ``cwr``    CWR*: the last unit learns by SGD in a temporary bank beside the consolidated one
             (C (d + 1) weights and C counts). Lomonaco et al., CVPR-W 2020 (arXiv 1907.03799), Sec. 4.
- ``tinyol`` the last unit learns by SGD one sample at a time; a sample is used once and dropped.
             Ren et al., IJCNN 2021 (arXiv 2103.08295).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dse.plan.decisions import HEADS, BoolArray, PlanBatch
from dse.plan.spec import StepSpec
from dse.workload import Workload

CHOICES = ("head",)

WORD = 4  # bytes of an fp32 value or an int32 count


def illegal(workload: Workload, plans: PlanBatch) -> dict[str, BoolArray]:
    """Refuse decisions that contradict a head; ``TrainingPlan.canonical`` never produces them."""
    other = plans.head != HEADS.index("sgd")
    last = len(workload.units) - 1
    return {
        "a head other than sgd learns above the last cut only": other & (plans.cut != last),
        "a head other than sgd keeps no replays": other & (plans.n_replays > 0),
        "a head other than sgd learns in fp32": other & (plans.learning_dtype != 0),
    }


def edit(spec: StepSpec, workload: Workload, plans: PlanBatch) -> StepSpec:
    """Add the state and the arithmetic of the plan's head."""
    last = workload.units[-1]
    features, classes = last.input_elements, last.out_channels
    means = WORD * classes * (features + 1)
    is_ncm, is_slda, is_cwr = (plans.head == HEADS.index(name) for name in ("ncm", "slda", "cwr"))
    closed = is_ncm | is_slda
    bank = WORD * classes * (features + 2)
    return replace(
        spec,
        backprop=spec.backprop & ~closed,
        weight_ratio=np.where(closed[:, None], 0.0, spec.weight_ratio),
        bias_learns=spec.bias_learns & ~closed[:, None],
        head_state_bytes=np.where(
            is_slda, means + WORD * (features**2 + classes * (features + 1)), 0
        ) + np.where(is_ncm, means, 0) + np.where(is_cwr, bank, 0),
        head_workspace_bytes=np.where(is_slda, WORD * features**2, 0),
        head_sample_macs=np.where(is_slda, features**2, 0),
        head_sample_elements=np.where(closed, features, 0),
        head_event_macs=np.where(is_slda, features**3 + classes * features**2, 0),
        head_sample_bytes=np.where(closed, WORD * (features + 1), 0)
        + np.where(is_slda, WORD * features**2, 0),
        head_event_state_bytes=np.where(is_slda, WORD * (features**2 + classes * features), 0)
        + np.where(is_cwr, bank, 0),
        head_event_workspace_bytes=np.where(is_slda, WORD * features**3, 0),
    )  # fmt: skip
