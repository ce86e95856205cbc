"""What is decided: one training plan, and many of them in columns.

Categorical decisions travel as integer codes into the tuples of this module, so that a batch of plans
is a set of plain arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import UnknownName
from dse.plan.policy import UpdatePolicy
from dse.plan.structure import Checkpoints, Patches
from dse.vocabulary import DTYPE_BYTES, DTYPES
from dse.workload import Workload

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

HEADS: Final = ("sgd", "ncm", "slda", "cwr", "tinyol")
REPLAYS: Final = ("none", "raw", "latent")
LEARNING_DTYPES: Final = DTYPES
BN_MODES: Final = ("folded", "frozen_stats", "batch_stats", "group")
OPTIMISERS: Final = ("sgd", "momentum", "adam", "lars")
UPDATES: Final = ("accumulate", "immediate", "in_place")
NEW_SAMPLES: Final = ("cache_latent", "cache_raw", "recompute")
ROUNDINGS: Final = ("nearest", "floor")
FIRST_INPUTS: Final = ("stored", "dequantised")
BACKWARD_DTYPES: Final = ("fp32", "int8")
ACCUMULATOR_DTYPES: Final = ("fp32", "int8")
GRADIENT_SCALINGS: Final = ("none", "qas")
WEIGHT_ROUNDINGS: Final = ("nearest", "stochastic")
CLASSIFIER_DTYPES: Final = ("learning", "fp32")
FROZEN_BITS: Final = (8, 32)
IN_PLACE: Final = ("elementwise", "none", "depthwise")
IM2COL: Final = ("library", "none", "full")
SAVED_BITS: Final = (2, 4, 8, 32)

CODES: Final[dict[str, tuple[str, ...]]] = {
    "head": HEADS,
    "replay": REPLAYS,
    "learning_dtype": LEARNING_DTYPES,
    "bn_mode": BN_MODES,
    "optimiser": OPTIMISERS,
    "update": UPDATES,
    "new_samples": NEW_SAMPLES,
    "rounding": ROUNDINGS,
    "first_input": FIRST_INPUTS,
    "backward_dtype": BACKWARD_DTYPES,
    "accumulator_dtype": ACCUMULATOR_DTYPES,
    "classifier_dtype": CLASSIFIER_DTYPES,
    "gradient_scaling": GRADIENT_SCALINGS,
    "weight_rounding": WEIGHT_ROUNDINGS,
    "in_place": IN_PLACE,
    "im2col": IM2COL,
}
"""Categorical decisions and their words; a column holds positions in these tuples."""

LIFESPAN_CHOICES: Final = ("in_place", "checkpoints", "saved_bits", "im2col", "patches")
"""Decisions that change how long buffers live and how large they are, but not what they are for."""

STEP_CHOICES: Final = (
    "head", "replay", "cut", "policy", "frozen_bits", "replay_bits", "learning_dtype", "bn_mode",
    "optimiser", "new_per_batch", "replays_per_batch", "micro_batch", "update", "new_samples", "first_input",
    "persist_every", "backward_dtype", "accumulator_dtype", "classifier_dtype", *LIFESPAN_CHOICES,
)  # fmt: skip
"""Decisions that change the training step, or what stands in memory beside it."""

EVENT_CHOICES: Final = (
    "n_replays", "rounding", "replay_level", "images_per_event", "epochs", "operating_point", "sleep_state",
    "gradient_scaling", "weight_rounding",
)  # fmt: skip
"""Decisions that leave the training step as it is: how often it runs, at which clock, where replays are kept,
and how numbers are scaled and rounded, which has no price."""

AS_COMPUTED: Final = 32
"""Saved bits that stand for "in the width in which they were computed"."""

INT8_NEUTRAL: Final[dict[str, Any]] = {
    "backward_dtype": "fp32", "accumulator_dtype": "fp32", "classifier_dtype": "learning",
    "gradient_scaling": "none", "weight_rounding": "nearest",
}  # fmt: skip
"""Decisions of int8 learning, and the value that stands for "none" where learning is not in int8."""


@dataclass(frozen=True)
class TrainingPlan:
    """One complete set of training decisions; the defaults are those of arXiv 2110.10486.

    ``cut`` is the LR layer: the tensor after unit ``cut``; for the last unit the vector that enters it;
    -1 is the network input. ``persist_every`` = 0 keeps the learned weights in retained RAM alone.
    ``checkpoints`` and ``patches`` are words of ``dse.plan.structure``; ``saved_bits`` = 32 keeps saved
    activations as they were computed.
    """

    cut: int
    head: str = "sgd"
    replay: str = "latent"
    n_replays: int = 1500
    replay_bits: int = 8
    rounding: str = "nearest"
    replay_level: str = "auto"
    frozen_bits: int = 8
    policy: UpdatePolicy | str = "all"
    learning_dtype: str = "fp32"
    bn_mode: str = "folded"
    optimiser: str = "sgd"
    new_per_batch: int = 21
    replays_per_batch: int = 107
    micro_batch: int = 1
    update: str = "accumulate"
    epochs: int = 4
    images_per_event: int = 300
    new_samples: str = "cache_latent"
    first_input: str = "stored"
    persist_every: int = 1
    backward_dtype: str = "fp32"
    accumulator_dtype: str = "fp32"
    classifier_dtype: str = "learning"
    gradient_scaling: str = "qas"
    weight_rounding: str = "stochastic"
    in_place: str = "elementwise"
    checkpoints: str = "none"
    saved_bits: int = 32
    im2col: str = "library"
    patches: str = "none"

    def canonical(self, workload: Workload) -> TrainingPlan:
        """Return the plan with decisions that mean nothing for its head or replay set to neutral values.

        Two plans that do the same work compare equal after this.
        """
        plan = self
        if plan.head != "sgd":
            plan = replace(
                plan, cut=len(workload.units) - 1, replay="none", replay_bits=32, policy="last-1",
                learning_dtype="fp32", bn_mode="folded", optimiser="sgd", first_input="dequantised",
                checkpoints="none", saved_bits=AS_COMPUTED,
            )  # fmt: skip
        if plan.head in ("ncm", "slda", "tinyol"):
            plan = replace(
                plan, new_per_batch=1, micro_batch=1, update="in_place", epochs=1, new_samples="cache_latent"
            )
        if plan.replay == "none":
            plan = replace(plan, n_replays=0, replays_per_batch=0, replay_level="auto", rounding="nearest")
        if plan.replay == "raw":
            plan = replace(plan, replay_bits=8, rounding="nearest")
        if plan.learning_dtype != "int8":
            plan = replace(plan, **INT8_NEUTRAL)
        if plan.saved_bits >= 8 * DTYPE_BYTES.get(plan.learning_dtype, 0):
            plan = replace(plan, saved_bits=AS_COMPUTED)
        cut_layer = workload.units[plan.cut].cut_layer if 0 <= plan.cut < len(workload.units) else -1
        checkpoints = Checkpoints.parse(plan.checkpoints)  # a list that fits nowhere is refused, not dropped
        if not checkpoints.units and not checkpoints.places(workload, cut_layer):
            plan = replace(plan, checkpoints="none")
        return replace(plan, replays_per_batch=min(plan.replays_per_batch, plan.n_replays))


@dataclass(frozen=True)
class PlanBatch:
    """P training plans in columns; see ``TrainingPlan`` for the meaning of each.

    Arrays have shape (P,) except ``weight_ratio`` and ``bias_learns``, which are (P, U).
    ``replay_level`` holds names, because levels belong to a board; ``patches`` codes; ``checkpoints`` is
    empty where no plan has any.
    """

    head: IntArray
    replay: IntArray
    cut: IntArray
    frozen_bits: IntArray
    replay_bits: IntArray
    learning_dtype: IntArray
    bn_mode: IntArray
    optimiser: IntArray
    new_per_batch: IntArray
    replays_per_batch: IntArray
    micro_batch: IntArray
    update: IntArray
    new_samples: IntArray
    first_input: IntArray
    n_replays: IntArray
    rounding: IntArray
    images_per_event: IntArray
    epochs: IntArray
    persist_every: IntArray
    backward_dtype: IntArray
    accumulator_dtype: IntArray
    classifier_dtype: IntArray
    gradient_scaling: IntArray
    weight_rounding: IntArray
    in_place: IntArray
    saved_bits: IntArray
    im2col: IntArray
    patches: IntArray
    replay_level: tuple[str, ...]
    weight_ratio: FloatArray
    bias_learns: BoolArray
    policy_names: tuple[str, ...] = ()
    checkpoints: tuple[Checkpoints, ...] = ()

    def __len__(self) -> int:
        return len(self.cut)

    def column(self, name: str) -> IntArray:
        """Return one integer column by name."""
        column: IntArray = getattr(self, name)
        return column

    def rows(self, rows: NDArray[Any] | slice) -> PlanBatch:
        """Return the plans at ``rows`` (indices, mask or slice)."""
        index = np.arange(len(self))[rows]
        values: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            values[item.name] = (
                tuple(value[i] for i in index)
                if isinstance(value, tuple) and value
                else (value if isinstance(value, tuple) else value[index])
            )
        return PlanBatch(**values)

    @classmethod
    def from_plans(cls, workload: Workload, plans: Sequence[TrainingPlan]) -> PlanBatch:
        """Put single plans into columns, in their canonical form."""
        plans = [plan.canonical(workload) for plan in plans]
        policies = [UpdatePolicy.parse(plan.policy) for plan in plans]
        columns = {name: [getattr(plan, name) for plan in plans] for name in COLUMN_NAMES}
        columns["policy"] = list(range(len(plans)))
        patches = [Patches.parse(plan.patches) for plan in plans]
        columns["patches"] = [0 if found is None else found.code for found in patches]
        levels = tuple(plan.replay_level for plan in plans)
        checkpoints = tuple(Checkpoints.parse(plan.checkpoints) for plan in plans)
        batch = cls.from_columns(workload, columns, policies, levels)
        return replace(batch, checkpoints=checkpoints if any(map(_splits, checkpoints)) else ())

    @classmethod
    def from_columns(
        cls,
        workload: Workload,
        columns: Mapping[str, Sequence[Any] | NDArray[Any]],
        policies: Sequence[UpdatePolicy],
        replay_level: Sequence[str] | None = None,
    ) -> PlanBatch:
        """Build a batch from columns; words or codes are accepted for categoricals.

        ``columns["policy"]`` holds positions in ``policies``, ``columns["checkpoints"]`` the K of "every K"
        (0: none), ``columns["patches"]`` codes. Columns that are absent take the default of ``TrainingPlan``;
        those of int8 learning are neutral where learning is not in int8.
        """
        count = len(columns["cut"])
        default = TrainingPlan(cut=-1)
        values: dict[str, Any] = {}
        for name in COLUMN_NAMES:
            given = columns.get(name)
            values[name] = _coded(name, [_default(default, name)] * count if given is None else given)
        other = values["learning_dtype"] != LEARNING_DTYPES.index("int8")
        for name, neutral in INT8_NEUTRAL.items():
            if name not in columns:
                values[name] = np.where(other, code_of(name, neutral), values[name])
        which = np.asarray(columns.get("policy", np.zeros(count)), dtype=np.int64)
        ratio, bias = _policy_tables(workload, policies, which, values["cut"])
        levels = tuple(replay_level) if replay_level is not None else ("auto",) * count
        names = tuple(policies[index].name for index in which)
        every = np.asarray(columns.get("checkpoints", ()), dtype=np.int64)
        return cls(
            **values, replay_level=levels, weight_ratio=ratio, bias_learns=bias, policy_names=names,
            checkpoints=tuple(Checkpoints(int(step)) for step in every) if every.any() else (),
        )  # fmt: skip


COLUMN_NAMES: Final = (
    "head", "replay", "cut", "frozen_bits", "replay_bits", "learning_dtype", "bn_mode", "optimiser",
    "new_per_batch", "replays_per_batch", "micro_batch", "update", "new_samples", "first_input",
    "n_replays", "rounding", "images_per_event", "epochs", "persist_every", *INT8_NEUTRAL,
    "in_place", "saved_bits", "im2col", "patches",
)  # fmt: skip


def _splits(checkpoints: Checkpoints) -> bool:
    return checkpoints != Checkpoints()


def _default(plan: TrainingPlan, name: str) -> Any:
    """Return the default of a column; no patches are code 0."""
    return 0 if name == "patches" else getattr(plan, name)


def _coded(name: str, values: Sequence[Any] | NDArray[Any]) -> IntArray:
    words = CODES.get(name)
    if words is None or (isinstance(values, np.ndarray) and values.dtype.kind in "iu"):
        return np.asarray(values, dtype=np.int64)
    return np.array([code_of(name, value) for value in values], dtype=np.int64)


def code_of(name: str, value: Any, *, file: str = "plan") -> int:
    """Return the code of a categorical word; a code is returned as it is."""
    words = CODES[name]
    if isinstance(value, int | np.integer) and 0 <= value < len(words):
        return int(value)
    if value not in words:
        raise UnknownName(name.replace("_", " "), value, words, file=file, key=name)
    return words.index(value)


def _policy_tables(
    workload: Workload, policies: Sequence[UpdatePolicy], which: IntArray, cuts: IntArray
) -> tuple[FloatArray, BoolArray]:
    pairs, inverse = np.unique(np.stack([which, cuts]), axis=1, return_inverse=True)
    ratio = np.zeros((pairs.shape[1], len(workload.units)))
    bias = np.zeros(ratio.shape, dtype=bool)
    for row, (policy, cut) in enumerate(pairs.T):
        ratio[row], bias[row] = policies[int(policy)].resolve(workload, int(cut))
    return ratio[inverse.ravel()], bias[inverse.ravel()]
