"""The designs of a space in blocks: within one, rows (training steps) times columns (events) are all designs.

A block fixes board, network, head, kind of replay, mini-batch, and whether learning is in int8. Decisions
that mean nothing there are collapsed to one value, as ``TrainingPlan.canonical`` has them, so that no design
is counted twice. A buffer smaller than the replays of a mini-batch gets a block of its own: a mini-batch
never holds more than the buffer does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.cost.context import Context
from dse.plan.decisions import (
    AS_COMPUTED,
    BN_MODES,
    FIRST_INPUTS,
    HEADS,
    INT8_NEUTRAL,
    LEARNING_DTYPES,
    NEW_SAMPLES,
    OPTIMISERS,
    REPLAYS,
    ROUNDINGS,
    UPDATES,
    PlanBatch,
    code_of,
)
from dse.plan.policy import UpdatePolicy
from dse.search.choices import AUTO, EVENT_AXES, STEP_AXES, WHOLE_BATCH

IntArray = NDArray[np.int64]
Axes = Mapping[str, tuple[int, ...]]

SGD: Final = HEADS.index("sgd")
INT8: Final = LEARNING_DTYPES.index("int8")
NO_REPLAY, RAW = REPLAYS.index("none"), REPLAYS.index("raw")
ONE_BY_ONE: Final = tuple(HEADS.index(name) for name in ("ncm", "slda", "tinyol"))
TOO_FEW_IMAGES: Final = "fewer images per event than one mini-batch needs"

_OTHER_HEADS: Final[dict[str, tuple[int, ...]]] = {
    "replay_bits": (32,),
    "policy": (0,),
    "learning_dtype": (LEARNING_DTYPES.index("fp32"),),
    "bn_mode": (BN_MODES.index("folded"),),
    "optimiser": (OPTIMISERS.index("sgd"),),
    "first_input": (FIRST_INPUTS.index("dequantised"),),
    "checkpoints": (0,),
    "saved_bits": (AS_COMPUTED,),
}
_ONE_BY_ONE: Final[dict[str, tuple[int, ...]]] = {
    "micro_batch": (1,),
    "update": (UPDATES.index("in_place"),),
    "epochs": (1,),
    "new_samples": (NEW_SAMPLES.index("cache_latent"),),
}
_NO_REPLAY: Final[dict[str, tuple[int, ...]]] = {
    "n_replays": (0,),
    "replay_level": (AUTO,),
    "rounding": (ROUNDINGS.index("nearest"),),
}
_RAW: Final[dict[str, tuple[int, ...]]] = {"replay_bits": (8,), "rounding": (ROUNDINGS.index("nearest"),)}
_NOT_INT8: Final = {name: (code_of(name, neutral),) for name, neutral in INT8_NEUTRAL.items()}


@dataclass(frozen=True)
class Kind:
    """What tells a block from its neighbours on the same board and network."""

    head: int
    replay: int
    new_per_batch: int
    replays_per_batch: int
    int8: bool = False
    """Whether learning is in int8; the other dtypes share a block."""

    @classmethod
    def of(cls, head: int, replay: int, batch: tuple[int, int], n_replays: int, learning_dtype: int) -> Kind:
        """Return the block that a combination of choices belongs to."""
        replay = replay if head == SGD else NO_REPLAY
        new = 1 if head in ONE_BY_ONE else batch[0]
        replays = 0 if replay == NO_REPLAY else min(batch[1], n_replays)
        return cls(head, replay, new, replays, head == SGD and learning_dtype == INT8)

    @property
    def decisions(self) -> dict[str, int]:
        """The decisions that are the same throughout the block."""
        return {name: value for name, value in vars(self).items() if name != "int8"}


@dataclass(frozen=True)
class Tile:
    """Neighbouring columns of a block: decisions that all of them share have shape (1,), the others (W,)."""

    columns: slice
    choices: dict[str, IntArray]


@dataclass(frozen=True)
class Block:
    """Rows times columns of designs; design ``row * columns + column`` has index ``first`` more than that."""

    context: Context
    board: int
    network: int
    kind: Kind
    step: Axes
    event: Axes
    policies: tuple[UpdatePolicy, ...]
    first: int
    dropped_columns: int  # events with too few images
    withheld: tuple[tuple[int, int], ...] = ()
    """Designs (first index, one behind the last) that cannot be placed in memory."""

    @cached_property
    def rows(self) -> int:
        """Number of training steps."""
        return prod(len(values) for values in self.step.values())

    @cached_property
    def columns(self) -> int:
        """Number of events."""
        return prod(len(values) for values in self.event.values())

    @property
    def size(self) -> int:
        """Number of designs that have an index."""
        return self.rows * self.columns

    @property
    def dropped(self) -> int:
        """Number of designs without one: their event is shorter than a mini-batch."""
        return self.rows * self.dropped_columns

    def without_map(self, index: IntArray) -> NDArray[np.bool_]:
        """Return which of the designs ``index`` are known to have no placement, in its shape."""
        found = np.zeros(np.shape(index), dtype=bool)
        for start, stop in self.withheld:
            found |= (index >= start) & (index < stop)
        return found

    def step_values(self, rows: IntArray) -> dict[str, IntArray]:
        """Return the step decisions of ``rows`` (S,): codes, and positions in ``policies``."""
        return _values(self.step, rows)

    def event_values(self, columns: IntArray) -> dict[str, IntArray]:
        """Return the event decisions of ``columns`` (W,) as codes."""
        return _values(self.event, columns)

    def tiles(self, rows: int, chunk: int) -> Iterator[Tile]:
        """Yield all columns in runs that, times ``rows``, make up to ``chunk`` designs.

        The slow decisions are constant in a run, which spares the price of broadcasting them.
        """
        names = list(self.event)
        fast, width = len(names), 1
        while fast and width * rows < chunk:
            fast -= 1
            width *= len(self.event[names[fast]])
        for start in range(0, self.columns, width):
            for first in range(start, start + width, max(chunk // rows, 1)):
                run = np.arange(first, min(first + max(chunk // rows, 1), start + width))
                values = self.event_values(run)
                slow = {name: values[name][:1] for name in names[:fast]}
                yield Tile(slice(first, first + len(run)), values | slow)

    def plans(self, rows: IntArray) -> PlanBatch:
        """Return the plans of ``rows``, with event decisions that any column could have."""
        constant = self.kind.decisions | {
            "n_replays": max(self.event["n_replays"]),
            "images_per_event": max(self.event["images_per_event"]),
        }
        columns = self.step_values(rows) | {
            name: np.full(len(rows), value) for name, value in constant.items()
        }
        return PlanBatch.from_columns(self.context.workload, columns, self.policies)

    def policy_names(self, values: Mapping[str, IntArray]) -> NDArray[np.str_]:
        """Return the policy of each row by name; whatever trains everything above the cut is "all"."""
        names = np.array([policy.name for policy in self.policies], dtype=np.str_)
        same = np.array(
            [[self._trains_all(policy, cut) for cut in self.step["cut"]] for policy in self.policies]
        )
        cuts = {cut: position for position, cut in enumerate(self.step["cut"])}
        column = np.array([cuts[int(cut)] for cut in values["cut"]], dtype=np.int64)
        return np.where(same[values["policy"], column], "all", names[values["policy"]])

    def _trains_all(self, policy: UpdatePolicy, cut: int) -> bool:
        workload = self.context.workload
        mine, everything = policy.resolve(workload, cut), UpdatePolicy("all").resolve(workload, cut)
        return all(np.array_equal(one, other) for one, other in zip(mine, everything, strict=True))

    def position(self, decisions: Mapping[str, int]) -> int:
        """Return the index of the design with ``decisions``; those that are collapsed here are ignored."""
        whole = self.kind.new_per_batch + self.kind.replays_per_batch
        micro_batch = whole if decisions["micro_batch"] == WHOLE_BATCH else decisions["micro_batch"]
        row = _position(self.step, {**decisions, "micro_batch": micro_batch})
        return self.first + row * self.columns + _position(self.event, decisions)


def _values(axes: Axes, flat: IntArray) -> dict[str, IntArray]:
    shape = tuple(len(values) for values in axes.values())
    places = np.unravel_index(np.asarray(flat), shape)
    return {
        name: np.asarray(values, dtype=np.int64)[place]
        for (name, values), place in zip(axes.items(), places, strict=True)
    }


def _position(axes: Axes, decisions: Mapping[str, int]) -> int:
    position = 0
    for name, values in axes.items():
        place = 0 if len(values) == 1 else values.index(decisions[name])
        position = position * len(values) + place
    return position


def blocks_of(
    context: Context, board: int, network: int, choices: Axes, batches: tuple[tuple[int, int], ...],
    policies: tuple[UpdatePolicy, ...], first: int, withheld: tuple[tuple[int, int], ...] = (),
) -> Iterator[Block]:  # fmt: skip
    """Yield the blocks of one board and network; ``choices`` holds codes that apply there."""
    for kind, sizes in _kinds(choices, batches).items():
        collapsed = _collapsed(context, kind, choices["learning_dtype"])
        axes = {**choices, "n_replays": sizes, **collapsed}
        batch = kind.new_per_batch + kind.replays_per_batch
        axes["micro_batch"] = tuple(
            dict.fromkeys(m if m != WHOLE_BATCH else batch for m in axes["micro_batch"])
        )
        images = tuple(count for count in axes["images_per_event"] if count >= kind.new_per_batch)
        event = {name: axes[name] for name in EVENT_AXES}
        everything = prod(len(values) for values in event.values())
        event["images_per_event"] = images
        kept = prod(len(values) for values in event.values())
        step = {name: axes[name] for name in STEP_AXES}
        own = policies if kind.head == SGD else (UpdatePolicy("last-1"),)
        block = Block(context, board, network, kind, step, event, own, first, everything - kept, withheld)
        first += block.size
        yield block


def _kinds(choices: Axes, batches: tuple[tuple[int, int], ...]) -> dict[Kind, tuple[int, ...]]:
    """Blocks in their order, each with its buffer sizes."""
    kinds: dict[Kind, dict[int, None]] = {}
    for head in choices["head"]:
        for replay in choices["replay"]:
            for batch in batches:
                for size, dtype in product(choices["n_replays"], choices["learning_dtype"]):
                    kinds.setdefault(Kind.of(head, replay, batch, size, dtype), {})[size] = None
    return {kind: tuple(sizes) for kind, sizes in kinds.items()}


def _collapsed(context: Context, kind: Kind, dtypes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Decisions that mean nothing in a block of ``kind``, at their neutral value, and its learning dtypes."""
    axes: dict[str, Any] = {"learning_dtype": tuple(code for code in dtypes if (code == INT8) == kind.int8)}
    if not kind.int8:
        axes |= _NOT_INT8
    if kind.head != SGD:
        axes |= _OTHER_HEADS | {"cut": (len(context.workload.units) - 1,)}
    if kind.head in ONE_BY_ONE:
        axes |= _ONE_BY_ONE
    if kind.replay == NO_REPLAY:
        axes |= _NO_REPLAY
    if kind.replay == RAW:
        axes |= _RAW
    return axes
