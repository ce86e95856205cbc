"""The accuracy that arXiv 2110.10486 published for MobileNet-V1 on CORe50, and where it may be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.accuracy.base import (
    EXTRAPOLATED,
    INTERPOLATED,
    UNKNOWN,
    AccuracyEstimate,
    FloatArray,
    unknown,
)
from dse.accuracy.core50_table import CUTS, SIZES, WIDTHS, Z90, core50_table
from dse.plan.decisions import AS_COMPUTED, BN_MODES, HEADS, LEARNING_DTYPES, OPTIMISERS, REPLAYS, ROUNDINGS
from dse.workload import Workload

MACS: Final = 185_427_968  # one forward pass of MobileNet-V1 1.0 at 128 x 128 with 50 classes
UNITS: Final = 28

OF_THE_STEP: Final[dict[str, int | str]] = {
    "head": HEADS.index("sgd"),
    "replay": REPLAYS.index("latent"),
    "policy": "all",
    "learning_dtype": LEARNING_DTYPES.index("fp32"),
    "bn_mode": BN_MODES.index("batch_stats"),
    "optimiser": OPTIMISERS.index("sgd"),
    "new_per_batch": 21,
    "replays_per_batch": 107,
    "micro_batch": 128,  # batch statistics are those of the whole mini-batch
    "saved_bits": AS_COMPUTED,
}
"""What the study held fixed, among the decisions that change the step."""

OF_THE_EVENT: Final[dict[str, int | str]] = {
    "rounding": ROUNDINGS.index("nearest"),
    "epochs": 4,
    "images_per_event": 300,
}
"""What the study held fixed, among the decisions that do not."""


class PublishedCore50:
    """``published CORe50``: Table II and Fig. 6 of arXiv 2110.10486 with what lies between their points.

    See ``dse.accuracy.core50_table`` for the interpolation, its interval and its leave-one-out errors.
    """

    name = "published CORe50"
    depends_on = ("cut", "frozen_bits", "replay_bits", "n_replays", *OF_THE_STEP, *OF_THE_EVENT)

    def predict(self, workload: Workload, choices: Mapping[str, NDArray[Any]]) -> AccuracyEstimate:
        """Return accuracy [fraction] for ``choices``, arrays that broadcast; unknown outside ``domain()``.

        The table is worked out once per distinct N and then looked up, so that (S, 1) x (N,) grids are cheap.
        """
        if not is_the_studied_network(workload):
            return unknown(np.broadcast_shapes(*(np.shape(choices[name]) for name in self.depends_on)))
        row = np.where(_all_equal(choices, OF_THE_STEP), _row(choices), len(WIDTHS) * len(CUTS))
        sizes, column = np.unique(np.asarray(choices["n_replays"]), return_inverse=True)
        column = column.reshape(np.shape(choices["n_replays"]))
        column = np.where(_all_equal(choices, OF_THE_EVENT), column, len(sizes))
        at = np.broadcast_arrays(row, column)
        return AccuracyEstimate(*(table[at[0], at[1]] for table in _by_size(sizes)))

    def domain(self) -> str:
        """Say for which plans the study answers."""
        return (
            "MobileNet-V1 1.0 at 128x128 with 50 classes; latent replays at LR layer 19, 21, 23, 25 or 27; "
            "750 to 3000 replays (375 to 750: extrapolated); replay bits 32, 8, 7 (16: interpolated, "
            "6: extrapolated) at frozen bits 32, and 8, 7 (6: extrapolated) at frozen bits 8; "
            "plain fp32 SGD on every unit above the cut, 4 epochs of 300 images, mini-batches of 21 new and "
            "107 replayed samples at once with batch statistics, rounding to nearest"
        )


def is_the_studied_network(workload: Workload) -> bool:
    """Return whether ``workload`` is the network of the study, whatever its name."""
    same_shape = workload.input_shape == (3, 128, 128) and workload.classes == 50
    return bool(same_shape and len(workload.units) == UNITS and workload.total_macs == MACS)


def _all_equal(choices: Mapping[str, NDArray[Any]], fixed: Mapping[str, int | str]) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = np.asarray(True)
    for name, value in fixed.items():
        equal = equal & (np.asarray(choices[name]) == value)
    return equal


def _row(choices: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Row of the table, width-major; one past the end where the study has none."""
    frozen, bits, cut = (np.asarray(choices[name]) for name in ("frozen_bits", "replay_bits", "cut"))
    outside = len(WIDTHS) * len(CUTS)
    shape = np.broadcast_shapes(frozen.shape, bits.shape, cut.shape)
    row = np.full(shape, outside, dtype=np.int64)
    for w, width in enumerate(WIDTHS):
        for c, known in enumerate(CUTS):
            row = np.where((frozen == width[0]) & (bits == width[1]) & (cut == known), w * len(CUTS) + c, row)
    return row


def _by_size(sizes: NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.int8]]:
    """(value, low, high, status), each (rows + 1, sizes + 1); the last row and column are unknown."""
    table = core50_table()
    octave = np.log2(np.clip(sizes, SIZES[0], SIZES[-1]) / SIZES[0])
    left = np.minimum(octave.astype(np.int64), len(SIZES) - 2)
    share = octave - left
    bow = Z90 * table.errors.between_sizes / 4 * 4 * share * (1 - share) * (left >= 1)

    def between(columns: FloatArray) -> FloatArray:
        mixed: FloatArray = columns[..., left] * (1 - share) + columns[..., left + 1] * share
        return mixed

    value = between(table.value)
    half = np.sqrt(between(table.half**2) + bow**2)
    status = _status(table.status, left, share)
    status[..., (sizes < SIZES[0]) | (sizes > SIZES[-1])] = UNKNOWN
    columns = (value, np.maximum(value - half, 0), np.minimum(value + half, 100))
    lost = status == UNKNOWN
    padded = (_padded(np.where(lost, np.nan, column / 100), np.nan) for column in columns)
    return (*padded, _padded(status, UNKNOWN))  # type: ignore[return-value]


def _status(table: NDArray[np.int8], left: NDArray[np.int64], share: FloatArray) -> NDArray[np.int8]:
    """At a size of the table its own status; between two sizes the weaker one, interpolated at best."""
    right = table[..., left + 1]
    weaker = np.maximum(np.maximum(table[..., left], right), INTERPOLATED)
    at_left, at_right = share == 0, share == 1
    status = np.where(at_left, table[..., left], np.where(at_right, right, weaker))
    return np.minimum(status, EXTRAPOLATED).astype(np.int8)


def _padded(table: NDArray[Any], filler: float) -> NDArray[Any]:
    flat = table.reshape(-1, table.shape[-1])
    return np.pad(flat, ((0, 1), (0, 1)), constant_values=filler)
