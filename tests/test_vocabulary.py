"""The shared words: complete where one table depends on another, and each word once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.vocabulary import (
    DTYPE_BYTES,
    DTYPES,
    ELEMENT_OPERATIONS,
    OPERATORS,
    PASSES,
    REPLAY_BITS,
    WORKSPACE_FORMULAS,
    Evidence,
    Role,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "words", [OPERATORS, ELEMENT_OPERATIONS, PASSES, DTYPES, REPLAY_BITS, WORKSPACE_FORMULAS]
)
def test_each_word_once(words: tuple[object, ...]) -> None:
    assert len(set(words)) == len(words)


def test_operators_and_element_operations_are_apart() -> None:
    assert not set(OPERATORS) & set(ELEMENT_OPERATIONS)


def test_every_dtype_has_a_size() -> None:
    assert tuple(DTYPE_BYTES) == DTYPES


def test_evidence_is_ranked_strongest_first() -> None:
    assert [kind.value for kind in Evidence] == ["measured", "datasheet", "literature", "derived", "assumed"]


@pytest.mark.parametrize(
    "word", [*Role, *OPERATORS, *ELEMENT_OPERATIONS, *PASSES, *DTYPES, *WORKSPACE_FORMULAS, *Evidence]
)
def test_every_word_is_explained(word: str) -> None:
    assert f"`{word}`" in (ROOT / "docs" / "nomenclature.md").read_text(encoding="utf-8")
