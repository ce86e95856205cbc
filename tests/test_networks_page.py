"""What docs/networks.md says: operators that readers know, keys of layer kinds, endings, words of boards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from dse.vocabulary import ELEMENT_OPERATIONS, FORWARD_ELEMENT_OPERATIONS, FORWARD_OPERATORS, OPERATORS
from dse.workload.entries import keys_of
from dse.workload.layers import LAYER_KINDS
from dse.workload.model.limits import MOST_FILE_BYTES, MOST_NODES
from dse.workload.names import MODEL_SUFFIXES, REFUSED

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
OPERATORS_BY_FORMAT = PAGE[PAGE.index("## 8.") : PAGE.index("## 9.")]
LAYERS = PAGE[PAGE.index("## 7.") : PAGE.index("## 8.")]
BY_NAME: Final = re.compile(r"`([^`]+)`")

NAMED_TOGETHER: Final[Mapping[str, tuple[str, ...]]] = {
    "TFLite": ("READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
}
"""Operators that the table sums up in an ellipsis."""


def column(place: int) -> set[str]:
    """Names in backticks in one column of the operator table."""
    rows = [line.split("|") for line in OPERATORS_BY_FORMAT.splitlines() if line.startswith("|")]
    return {name.strip() for row in rows[2:] for name in BY_NAME.findall(row[place])}


def test_every_operator_of_onnx_is_named() -> None:
    pytest.importorskip("onnx")
    from dse.workload.onnx.rules import CONTRIBUTED, OWN

    known = {*OWN, *CONTRIBUTED}
    assert known - column(2) == set()
    assert column(2) - known == {"Quant", "Erf", "Where", "LRN", "custom:conv3d", "copy"} & column(2)


def test_every_operator_of_tflite_is_named() -> None:
    pytest.importorskip("tflite")
    from dse.workload.tflite.reader import CONVERTERS

    known = {kind.removeprefix("CUSTOM:") for kind in CONVERTERS}
    assert known - column(3) - {*NAMED_TOGETHER["TFLite"]} == set()
    assert column(3) - known == set()


def test_the_operators_of_torch_that_are_named_exist() -> None:
    from dse.workload.torch.operators import CONVERTERS

    words = column(4) - {"quantized_decomposed"}
    assert {f"aten.{word}" for word in words} - CONVERTERS.keys() == set()


def test_every_layer_kind_stands_with_its_keys() -> None:
    rows = [line.split("|") for line in LAYERS.splitlines() if line.startswith("| `")]
    tables = {kind: set(BY_NAME.findall(row[2])) for row in rows for kind in BY_NAME.findall(row[1])}
    for kind, cls in LAYER_KINDS.items():
        assert keys_of(cls).keys() <= tables[kind], kind


def test_endings_and_bounds_are_those_of_the_code() -> None:
    assert set(MODEL_SUFFIXES) <= set(BY_NAME.findall(PAGE))
    assert {*REFUSED} - {".pickle"} <= set(BY_NAME.findall(PAGE))
    assert f"{MOST_FILE_BYTES // 2**20} MiB" in PAGE
    assert f"{MOST_NODES:,} operations" in PAGE


def test_every_word_of_the_forward_pass_stands_where_boards_are_described() -> None:
    ahead = {*FORWARD_OPERATORS, *FORWARD_ELEMENT_OPERATIONS}
    assert ahead <= quoted(ROOT / "hwprofiles" / "README.md")
    assert {*ahead, *ELEMENT_OPERATIONS, *OPERATORS} <= quoted(ROOT / "docs" / "nomenclature.md")


def quoted(page: Path) -> set[str]:
    """Words in backticks on a page, outside its examples."""
    return {*BY_NAME.findall(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL))}
