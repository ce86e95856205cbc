"""Two boards beside each other: the numbers in which they differ."""

from __future__ import annotations

from typing import Any

from dse.hardware import HardwareProfile, Quantity
from dse.hardware.difference import Difference, differences, words
from dse.report import text
from dse.report.catalogue import quantity_text


def differences_text(first: HardwareProfile, second: HardwareProfile) -> str:
    """Write what differs: words, numbers that both have (with their ratio), and what one of them lacks."""
    found = differences(first, second)
    both = [each for each in found if each.first is not None and each.second is not None]
    parts = [f"{first.label} and {second.label}", _words(first, second)]
    if both:
        header = ("number", first.label, second.label, "ratio")
        parts.append(text.table(header, [_row(each) for each in both]))
    for board, missing in ((first, "second"), (second, "first")):
        alone = [each for each in found if getattr(each, missing) is None]
        if alone:
            parts.append(
                f"only {board.label} has\n" + text.table(("number", "value", "evidence"), _alone(alone))
            )
    if len(found) == 0:
        parts.append("no number differs")
    return "\n\n".join(part for part in parts if part)


def _words(first: HardwareProfile, second: HardwareProfile) -> str:
    ours, theirs = words(first), words(second)
    rows = [
        (key, ours.get(key), theirs.get(key))
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key) != theirs.get(key)
    ]
    return text.table(("what", first.label, second.label), rows) if rows else ""


def _row(each: Difference) -> tuple[str, ...]:
    ratio = "" if each.ratio is None else f"{each.ratio:.3g}"
    return each.path, _cell(each.path, each.first), _cell(each.path, each.second), ratio


def _alone(found: list[Difference]) -> list[tuple[str, ...]]:
    quantities = [(each.path, each.first or each.second) for each in found]
    return [(path, _cell(path, one), one.kind.value) for path, one in quantities if one is not None]


def _cell(path: str, quantity: Quantity | None) -> str:
    return "" if quantity is None else quantity_text(path, quantity)


def differences_frame(first: HardwareProfile, second: HardwareProfile) -> Any:
    """Return the differences as a pandas DataFrame: number, value, low, high, kind of each, and the ratio."""
    import pandas as pd

    rows = []
    for each in differences(first, second):
        row: dict[str, Any] = {"number": each.path}
        for name, quantity in (("first", each.first), ("second", each.second)):
            row |= {
                name: None if quantity is None else quantity.value,
                f"{name}_low": None if quantity is None else quantity.low_value,
                f"{name}_high": None if quantity is None else quantity.high_value,
                f"{name}_kind": "" if quantity is None else quantity.kind.value,
            }
        rows.append(row | {"ratio": each.ratio})
    return pd.DataFrame.from_records(rows)
