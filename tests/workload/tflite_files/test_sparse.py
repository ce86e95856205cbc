"""Constants of TFLite files that are stored sparsely, against matrices written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dse.workload.model import Constant, Model
from dse.workload.tflite.sparse import Level, Misfit, Sparsity, places
from tests.workload.exporters.tflite_builder import Scheme, Sparse, TfliteBuilder
from tests.workload.tflite_files.samples import only, read

ROWS = Sparse((0, 1), (3, ((0, 2, 2, 3), (0, 3, 1))))
"""Compressed rows of 3 x 4: two numbers in the first row, none in the second, one in the third."""

BY_ROWS = [[5, 0, 0, -6], [0, 0, 0, 0], [0, 7, 0, 0]]


def sparse(
    data: NDArray[Any], how: Sparse, shape: tuple[int, ...], scheme: Scheme | None = None, *,
    densify: bool = False,
) -> Model:  # fmt: skip
    """Read a linear layer with weights that are stored so."""
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, shape[1])), build.tensor("y", (1, shape[0]))
    stored = build.tensor("w", shape, data.dtype.name, data, scheme, sparse=how)
    if densify:
        stored = build.operator("DENSIFY", [stored], build.tensor("whole", shape, data.dtype.name))
    build.operator("FULLY_CONNECTED", [source, stored, -1], target, "FullyConnectedOptions")
    return read(build, [source], [target])


def weight_of(model: Model) -> Constant:
    return only(model).constants["weight"]


@pytest.mark.parametrize("densify", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_compressed_rows(dtype: str, densify: bool) -> None:
    model = sparse(np.array([5, -6, 7], dtype=dtype), ROWS, (3, 4), densify=densify)
    weight = weight_of(model)
    np.testing.assert_array_equal(weight.values, BY_ROWS)
    assert weight.stored_bytes == 3 * np.dtype(dtype).itemsize
    assert any("stored sparsely" in note for note in model.notes)


def test_quantised_ones_have_zeros_where_nothing_is_stored() -> None:
    model = sparse(np.array([5, -6, 7], dtype=np.int8), ROWS, (3, 4), Scheme((0.5,), (0,)))
    np.testing.assert_array_equal(weight_of(model).values, np.array(BY_ROWS) / 2)
    model = sparse(np.array([5, -6, 7], dtype=np.int8), ROWS, (3, 4), Scheme((0.5,), (3,)))
    assert "zero point other than 0" in model.faults[0]
    assert model.nodes[0].constants["weight"].values is None


def test_compressed_columns() -> None:
    how = Sparse((1, 0), (4, ((0, 1, 2, 2, 3), (0, 2, 0))))
    model = sparse(np.array([5, 7, -6], dtype=np.float32), how, (3, 4))
    np.testing.assert_array_equal(weight_of(model).values, BY_ROWS)


def test_blocks() -> None:
    """Blocks of 2 x 2 of a 4 x 4 matrix: the upper right and the lower left one."""
    how = Sparse((0, 1, 2, 3), (2, ((0, 1, 2), (1, 0)), 2, 2), (0, 1))
    model = sparse(np.arange(1, 9, dtype=np.float32), how, (4, 4))
    upper, lower = [[0, 0, 1, 2], [0, 0, 3, 4]], [[5, 6, 0, 0], [7, 8, 0, 0]]
    np.testing.assert_array_equal(weight_of(model).values, [*upper, *lower])


def test_random_kernels_walked_in_every_order() -> None:
    """Convolution weights in compressed form as a naive loop over the walk writes them."""
    random = np.random.default_rng(0)
    for order in ((0, 1, 2, 3), (3, 0, 2, 1), (1, 3, 0, 2)):
        whole = random.integers(1, 9, (4, 3, 2, 5)) * (random.random((4, 3, 2, 5)) < 0.3)
        walked = whole.transpose(order)
        rows = walked.reshape(-1, walked.shape[-1])
        indices = [place for row in rows for place in np.flatnonzero(row)]
        ends = np.cumsum([0, *(np.count_nonzero(row) for row in rows)])
        levels = (*(Level(size) for size in walked.shape[:-1]), Level(0, ends, np.array(indices)))
        stored = rows[rows != 0]
        found = np.zeros(whole.size)
        found[places(Sparsity(order, (), levels), whole.shape, len(stored))] = stored
        np.testing.assert_array_equal(found.reshape(whole.shape), whole)


@pytest.mark.parametrize(("how", "text"), [
    (Sparse((0, 1), ()), "0 levels"),
    (Sparse((0, 0), ROWS.levels), "in the order"),
    (Sparse((0, 1), (3, 4)), "12 places are described"),
    (Sparse((0, 1), (3, ((0, 2, 3), (0, 3, 1)))), "3 segment ends"),
    (Sparse((0, 1), (3, ((0, 2, 1, 3), (0, 3, 1)))), "segment ends"),
    (Sparse((0, 1), (3, ((0, 2, 2, 3), (0, 4, 1)))), "indices outside an axis of 4"),
    (Sparse((0, 1), (3, ((0, 2, 2, 3), (1, 1, 1)))), "the same place"),
    (Sparse((0, 1), (3, ((0, 1, 1, 2), (0, 1)))), "3 elements are stored, 2 are described"),
    (Sparse((0, 1, 2), (3, ((0, 1), (0,)), 3), (1,)), "blocks of 3 along an axis of 4"),
    (Sparse((0, 1, 2), (3, ((0, 1), (0,)), 2), (7,)), "blocks of the axes"),
])  # fmt: skip
def test_what_does_not_fit_is_a_fault(how: Sparse, text: str) -> None:
    model = sparse(np.array([5, -6, 7], dtype=np.float32), how, (3, 4))
    assert text in model.faults[0]
    assert model.nodes[0].constants["weight"].values is None


def test_few_bytes_do_not_make_a_huge_tensor() -> None:
    levels = (Level(2**20), Level(2**20))
    with pytest.raises(Misfit, match="at most"):
        places(Sparsity((0, 1), (), levels), (2**20, 2**20), 3)
