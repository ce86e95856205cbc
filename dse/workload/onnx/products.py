"""Rules for matrix products: linear layers where one side is a constant, attention where none is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dse.workload.model.graph import Constant, Quantisation
from dse.workload.onnx import shapes
from dse.workload.onnx.convolutions import fused_activation, weight_of
from dse.workload.onnx.operations import Call, Made
from dse.workload.onnx.tensors import Refused, Tensor, as_constant


def matmul(call: Call) -> Made:
    """MatMul, FusedMatMul."""
    factor = call.real("alpha", 1.0)
    flips = (bool(call.integer("transA", 0)), bool(call.integer("transB", 0)))
    if call.integer("transBatchA", 0) or call.integer("transBatchB", 0):
        raise Refused("it transposes the batch")
    return product(call.tensor(0), call.tensor(1), flips, factor)


def product(
    left: Tensor, right: Tensor, flips: tuple[bool, bool] = (False, False), factor: float = 1.0,
    quantisation: Quantisation | None = None,
) -> Made:  # fmt: skip
    """Return a matrix product: a linear layer where the right side is one constant matrix."""
    if right.constant and not left.constant and not flips[0]:
        whole = right.known
        if (
            len(whole) >= 2
            and all(size == 1 for size in whole[:-2])
            and len(whole) <= max(len(left.known), 2)
        ):
            return linear(left, right, None, flips[1], factor, quantisation)
    return _matmul(left, right, flips, quantisation)


def linear(
    tensor: Tensor, weight: Tensor, bias: dict[str, Constant] | None, transposed: bool, factor: float = 1.0,
    quantisation: Quantisation | None = None,
) -> Made:  # fmt: skip
    """Return a linear layer over the last axis; ``weight`` is (..., in, out), transposed (..., out, in)."""
    shape, whole = tensor.known, shapes.checked(weight.known)
    rank = len(whole)
    into, out = (whole[-1], whole[-2]) if transposed else whole[-2:]
    if not shape or shape[-1] != into or tensor.batch == len(shape) - 1:
        raise Refused(f"weights for {into} inputs over an input of {list(shape)}")
    axes = tuple(range(rank)) if transposed else (*range(rank - 2), rank - 1, rank - 2)
    constants = {"weight": as_constant(weight, axes, (out, into), factor)} | (bias or {})
    return Made(
        "linear", (tensor,), shapes.checked((*shape[:-1], out)), tensor.batch, {}, constants, len(shape) - 1,
        quantisation, tensor.dtype,
    )  # fmt: skip


def _matmul(left: Tensor, right: Tensor, flips: tuple[bool, bool], quantisation: Quantisation | None) -> Made:
    rows, columns = (
        (*side.known[:-2], side.known[-1], side.known[-2]) if flip and len(side.known) > 1 else side.known
        for side, flip in zip((left, right), flips, strict=True)
    )
    whole = shapes.checked(shapes.multiplied(rows, columns))
    active = tuple(side for side in (left, right) if not side.constant)
    attributes = {"transpose_a": flips[0], "transpose_b": flips[1]}
    constants = {}
    if len(active) == 1:
        held = left if left.constant else right
        constants["operand"] = as_constant(held)
        attributes["operand_first"] = held is left
    return Made(
        "matmul", active, whole, _product_batch(left, right, len(whole)), attributes, constants,
        quantisation=quantisation, dtype=left.dtype,
    )  # fmt: skip


def _product_batch(left: Tensor, right: Tensor, rank: int) -> int | None:
    """Where the batch of a factor stands in the product; None where it is summed over, or there is none."""
    rows, columns = len(left.known), len(right.known)
    if left.batch is not None:
        return None if left.batch == rows - 1 else left.batch + rank + (columns == 1) - rows
    if right.batch is None or right.batch == columns - 2 or columns == 1:
        return None
    return rank - 1 if right.batch == columns - 1 else right.batch + rank + (rows == 1) - columns


def gemm(call: Call) -> Made:
    """Gemm, FusedGemm: alpha A' B' + beta C."""
    left, right, added = call.tensor(0), call.tensor(1), call.at(2)
    flips = (bool(call.integer("transA", 0)), bool(call.integer("transB", 0)))
    if len(left.known) != 2 or len(right.known) != 2:
        raise Refused(f"{list(left.known)} times {list(right.known)}, both must be matrices")
    alpha, beta = call.real("alpha", 1.0), call.real("beta", 1.0)
    if not right.constant or flips[0]:
        if added is not None or alpha != 1.0:
            raise Refused("a product of two computed matrices with more than their product")
        return _matmul(left, right, flips, None)
    weight = weight_of(call, 1)
    out = weight.known[0 if flips[1] else 1]
    bias = {} if added is None or beta == 0.0 else gemm_bias(call.constant(2), out, beta)
    # The rows of a matrix are samples, whatever was done to the batch before.
    rows = replace(left, batch=0) if left.known[0] == call.batch_size else left
    return replace(linear(rows, weight, bias, flips[1], alpha), then=fused_activation(call))


def gemm_bias(tensor: Tensor | None, out: int, factor: float) -> dict[str, Constant]:
    """Return C of a Gemm as a bias of ``out`` numbers."""
    if tensor is None:
        return {}
    if tensor.known in ((out,), (1, out)):
        return {"bias": as_constant(tensor, None, (out,), factor)}
    if np.prod(tensor.known) == 1 and tensor.value is not None:
        value = np.broadcast_to(tensor.value.reshape(1), (out,))
        return {"bias": as_constant(replace(tensor, value=value, shape=(out,)), None, None, factor)}
    raise Refused(f"it adds {list(tensor.known)} to {out} outputs")


def einsum(call: Call) -> Made:
    """Einsum: a matrix product where it is one; otherwise its shape alone is known."""
    terms, result = _terms(call)
    tensors = [call.tensor(index) for index in range(len(call.node.inputs))]
    if len(tensors) != len(terms):
        raise Refused(f"{len(terms)} terms for {len(tensors)} tensors")
    sizes: dict[str, int] = {}
    for tensor, term in zip(tensors, terms, strict=True):
        if len(term) != len(tensor.known) or any(
            sizes.setdefault(letter, size) != size for letter, size in zip(term, tensor.known, strict=True)
        ):
            raise Refused(
                f"{call.text('equation', '')!r} does not fit {[list(one.known) for one in tensors]}"
            )
    if any(letter not in sizes for letter in result):
        raise Refused("its result has an axis that no input has")
    whole = shapes.checked([sizes[letter] for letter in result])
    flips = _flips(terms, result)
    if flips is not None and not all(tensor.constant for tensor in tensors):
        return replace(product(tensors[0], tensors[1], flips))
    active = tuple(tensor for tensor in tensors if not tensor.constant)
    constants = {f"input_{place}": as_constant(one) for place, one in enumerate(tensors) if one.constant}
    first = active[0] if active else tensors[0]
    mark = terms[tensors.index(first)][first.batch] if first.batch is not None else ""
    batch = result.index(mark) if mark and mark in result else None
    return Made("unknown", active, whole, batch, {}, constants)


def _terms(call: Call) -> tuple[list[str], str]:
    left, arrow, result = call.text("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    letters = "".join(terms)
    if "." in letters or not letters.isalpha():
        raise Refused(f"equation {call.text('equation', '')!r}")
    if not arrow:
        result = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    return terms, result


def _flips(terms: list[str], result: str) -> tuple[bool, bool] | None:
    """Which sides a product of two tensors reads transposed; None where it is no matrix product."""
    if len(terms) != 2 or min(map(len, terms)) < 2 or len(result) < 2:
        return None
    rows, columns, outer = result[-2], result[-1], result[:-2]
    left, right = terms
    summed = [letter for letter in left if letter in right and letter not in result]
    if len(summed) != 1 or left[:-2] != outer or right[:-2] != outer:
        return None
    sides = {rows + summed[0]: False, summed[0] + rows: True}
    others = {summed[0] + columns: False, columns + summed[0]: True}
    if left[-2:] not in sides or right[-2:] not in others:
        return None
    return sides[left[-2:]], others[right[-2:]]
