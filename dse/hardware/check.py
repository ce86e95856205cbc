"""What is wrong with a board's file, and what a board does not price."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dse.errors import Problem, Unpriced, UserError
from dse.hardware.load import load_part, read_board, split_board
from dse.hardware.profile import HardwareProfile
from dse.vocabulary import ELEMENT_OPERATIONS, OPERATORS

_UPDATES: Final = tuple(name for name in ELEMENT_OPERATIONS if name.startswith("update_"))
_CONVERSIONS: Final = ("quantise", "dequantise", "unpack")
_LAYERS: Final = tuple(name for name in ELEMENT_OPERATIONS if name not in (*_UPDATES, *_CONVERSIONS))


def check_board(name_or_path: str | Path) -> list[Problem]:
    """Return every mistake of a board's file and of the parts named with it; empty where there is none.

    Raises UnknownName where ``name_or_path`` is neither a shipped board nor a file.
    """
    base, *parts = split_board(str(name_or_path))
    board, problems = read_board(base)
    for part in parts:
        try:
            load_part(part)
        except UserError as error:
            problems += error.problems
    if board is not None and not problems:
        problems += _attaching(board, parts)
    return problems


def missing_prices(board: HardwareProfile) -> tuple[str, ...]:
    """Return what the default kernel libraries of ``board`` leave unpriced, one line each.

    Complete means: every operator forward in each dtype that has a library; forward and both backward
    passes in fp32, and in each other dtype whose library has a backward rate; every element operation
    in the passes that exist for it; the call overhead.
    """
    return tuple(dict.fromkeys(_missing(board)))


def _missing(board: HardwareProfile) -> Iterator[str]:
    for dtype, library in board.default_libraries:
        trains = dtype == "fp32" or any(
            rate.library == library and rate.dtype == dtype and rate.pass_ != "fwd" for rate in board.rates
        )
        passes = ("fwd", "bwd_input", "bwd_weight") if trains else ("fwd",)
        for operator, pass_ in itertools.product(OPERATORS, passes):
            yield from _try(board.rate, operator, pass_, dtype)
        for operation, pass_ in _element_keys(trains=trains):
            yield from _try(board.element_cost, operation, pass_, dtype)
        yield from _try(board.overhead, library)
    if "fp32" not in board.kernels:
        yield "no kernel library for fp32: nothing can learn on this board in fp32"


def _element_keys(*, trains: bool) -> Iterator[tuple[str, str]]:
    for operation in (*_LAYERS, *_CONVERSIONS):
        yield operation, "fwd"
    if trains:
        yield from ((operation, "bwd_input") for operation in _LAYERS)
        yield from ((operation, "update") for operation in _UPDATES)


def _try(lookup: object, *key: str) -> Iterator[str]:
    try:
        lookup(*key)  # type: ignore[operator]
    except Unpriced as error:
        yield str(error)


def _attaching(board: HardwareProfile, parts: list[str]) -> list[Problem]:
    try:
        board.with_parts(*parts)
    except UserError as error:
        return list(error.problems)
    return []
