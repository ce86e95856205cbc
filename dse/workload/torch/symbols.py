"""Sizes that are symbols: their values, and expressions of them read by hand, never evaluated as code.

Torch writes an expression as its constructors: ``Add(Mul(Integer(2), Symbol('s0')), Integer(1))``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any, Final

from dse.workload.torch.structure import LARGEST, Malformed, integer, mapping, tagged, text

LONGEST: Final = 1000
DEEPEST: Final = 32
_TOKEN: Final = re.compile(r"\s*('[^']*'|[A-Za-z_]\w*|-?\d{1,19}|[(),=])")
_PLAIN: Final = re.compile(r"[A-Za-z_]\w*")


def symbol(value: Any, where: str) -> str | None:
    """Return the name of the symbol that a size is; None where it is a number or an expression."""
    tag, content = tagged(value, where)
    if tag != "as_expr":
        return None
    expression = text(mapping(content, where).get("expr_str"), where)
    if _PLAIN.fullmatch(expression):
        return expression
    found = re.fullmatch(r"Symbol\('(\w+)'(?:, \w+=\w+)*\)", expression)
    return found[1] if found else None


def size(value: Any, symbols: Mapping[str, int], where: str) -> int:
    """Return a size: a number, or an expression of ``symbols``; raises Malformed where it is neither."""
    tag, content = tagged(value, where)
    if tag == "as_int":
        return integer(content, where)
    if tag != "as_expr":
        raise Malformed(f"{where} has to be a size, found {tag[:20]!r}")
    return evaluate(text(mapping(content, where).get("expr_str"), where), symbols)


def evaluate(expression: str, symbols: Mapping[str, int]) -> int:
    """Return the value of an expression of sums, products, floor divisions and remainders of ``symbols``.

    >>> evaluate("FloorDiv(Add(Symbol('s0', integer=True), Integer(-1)), Integer(2))", {"s0": 8})
    3
    """
    if len(expression) > LONGEST:
        raise Malformed(f"an expression of {len(expression)} letters is too long")
    tokens = _tokens(expression)
    value = _term(next(tokens, ""), tokens, symbols, 0)
    if next(tokens, ""):
        raise Malformed(f"cannot read the size {expression[:60]!r}")
    return value


def _tokens(expression: str) -> Iterator[str]:
    place = 0
    while place < len(expression):
        found = _TOKEN.match(expression, place)
        if found is None:
            raise Malformed(f"cannot read the size {expression[:60]!r}")
        yield found[1]
        place = found.end()


def _term(head: str, tokens: Iterator[str], symbols: Mapping[str, int], depth: int) -> int:
    if depth > DEEPEST:
        raise Malformed("a size that is nested too deeply")
    if head in symbols:
        return symbols[head]
    if next(tokens, "") != "(":
        raise Malformed(f"the symbol {head[:40]!r} has no value")
    if head in ("Symbol", "Integer"):
        return _leaf(head, tokens, symbols)
    if head not in _FUNCTIONS:
        raise Malformed(f"sizes with {head[:40]!r} cannot be computed")
    arguments, token = [], ","
    while token == ",":
        arguments.append(_term(next(tokens, ""), tokens, symbols, depth + 1))
        token = next(tokens, "")
    if token != ")":
        raise Malformed("a size without its closing bracket")
    return _bounded(head, arguments)


def _leaf(head: str, tokens: Iterator[str], symbols: Mapping[str, int]) -> int:
    content = next(tokens, "")
    while next(tokens, ")") != ")":  # assumptions such as positive=True
        pass
    if head == "Symbol":
        name = content.strip("'")
        if name not in symbols:
            raise Malformed(f"the symbol {name[:40]!r} has no value")
        return symbols[name]
    if not re.fullmatch(r"-?\d+", content):
        raise Malformed("a number without digits in a size")
    return int(content)


def _bounded(head: str, arguments: list[int]) -> int:
    if head not in ("Add", "Mul") and (len(arguments) != 2 or arguments[1] == 0):
        raise Malformed(f"{head} needs two numbers, the second not 0")
    value = _FUNCTIONS[head](arguments)
    if abs(value) > LARGEST:
        raise Malformed("a size beyond 64 bits")
    return value


_FUNCTIONS: Final[Mapping[str, Callable[[list[int]], int]]] = {
    "Add": sum,
    "Mul": prod,
    "FloorDiv": lambda numbers: numbers[0] // numbers[1],
    "Mod": lambda numbers: numbers[0] % numbers[1],
}
