"""STRIDED_SLICE: begins, ends and strides with the masks that say which of them count."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType

from dse.workload.base import Shape
from dse.workload.tflite.flat import Operator
from dse.workload.tflite.moving import part
from dse.workload.tflite.nodes import Nodes, known
from dse.workload.tflite.stored import Unreadable

Index = slice | int | EllipsisType | None


@dataclass(frozen=True)
class Taken:
    """Per axis of the input: first index, how many, how far apart; and the shape that comes out."""

    begins: Shape
    sizes: Shape
    steps: Shape
    result: Shape


def strided_slice(nodes: Nodes, operator: Operator) -> None:
    """STRIDED_SLICE of a computed tensor."""
    taken = resolve(known(nodes.value(operator, 0)), indices(nodes, operator))
    part(nodes, operator, taken.begins, taken.sizes, taken.result, steps=taken.steps)


def indices(nodes: Nodes, operator: Operator) -> tuple[Index, ...]:
    """Write the operator as an index expression; raises Unreadable where its inputs contradict each other."""
    begins, ends, strides = (nodes.whole(operator, place) for place in (1, 2, 3))
    if not len(begins) == len(ends) == len(strides) or len(begins) > 32 or 0 in strides:
        raise Unreadable(f"begins {list(begins)}, ends {list(ends)} and strides {list(strides)} do not fit")
    masks = {
        name: nodes.option(operator, f"{name}Mask")
        for name in ("Begin", "End", "Ellipsis", "NewAxis", "ShrinkAxis")
    }
    offset = bool(nodes.option(operator, "Offset"))
    found: list[Index] = []
    for place, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        bit = {name: bool(mask >> place & 1) for name, mask in masks.items()}
        if bit["Ellipsis"]:
            found.append(...)
        elif bit["NewAxis"]:
            found.append(None)
        elif bit["ShrinkAxis"]:
            found.append(begin)
        else:
            stop = None if bit["End"] else begin + end if offset else end
            found.append(slice(None if bit["Begin"] else begin, stop, stride))
    return tuple(found)


def resolve(full: Shape, index: tuple[Index, ...]) -> Taken:
    """Return what an index expression takes of a tensor of shape ``full``.

    >>> resolve((1, 8, 4), (slice(None), slice(1, None, 3), -1))
    Taken(begins=(0, 1, 3), sizes=(1, 3, 1), steps=(1, 3, 1), result=(1, 3))
    """
    named = sum(item is not None and item is not ... for item in index)
    if index.count(...) > 1 or named > len(full):
        raise Unreadable(f"{named} indices for {len(full)} axes")
    if ... not in index:
        index = (*index, ...)
    place = index.index(...)
    rest = (slice(None),) * (len(full) - named)
    rows: list[tuple[int, int, int]] = []
    result: list[int] = []
    for item in (*index[:place], *rest, *index[place + 1 :]):
        if item is None:
            result.append(1)
            continue
        rows.append(_taken(full[len(rows)], item))
        if isinstance(item, slice):
            result.append(rows[-1][1])
    begins, sizes, steps = zip(*rows, strict=True) if rows else ((), (), ())
    return Taken(begins, sizes, steps, tuple(result))


def _taken(size: int, item: Index) -> tuple[int, int, int]:
    if isinstance(item, slice):
        chosen = range(size)[item]
        return chosen.start, len(chosen), chosen.step
    if not isinstance(item, int) or not -size <= item < size:
        raise Unreadable(f"index {item} of {size}")
    return item % size, 1, 1
