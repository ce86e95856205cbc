"""The text of an error is the product: all problems at once, each with its place and its way out."""

from __future__ import annotations

import pytest

from dse import errors
from dse.errors import DseError, IllegalPlan, NothingFits, Problem, UnknownName, Unpriced, UserError


def test_a_problem_says_where_what_and_what_is_allowed() -> None:
    problem = Problem("board.toml", "memory.L2.size_kib", "found -1", "allowed: above 0")
    assert str(problem) == "board.toml: memory.L2.size_kib: found -1; allowed: above 0"


def test_a_problem_without_key_or_remedy_stays_short() -> None:
    assert str(Problem("board.toml", "", "is empty", "")) == "board.toml: is empty"


def test_an_error_carries_every_problem_in_order() -> None:
    problems = [Problem("f", f"key{i}", "wrong", "right") for i in range(10)]
    error = UserError(problems)
    assert error.problems == tuple(problems)
    assert str(error).splitlines() == [str(problem) for problem in problems]


def test_one_problem_or_a_sentence_will_do() -> None:
    assert UserError(Problem("f", "k", "a", "b")).problems == (Problem("f", "k", "a", "b"),)
    assert str(UserError("the file is empty")) == "input: the file is empty"


def test_an_unknown_name_suggests_the_nearest() -> None:
    error = UnknownName("board", "vegga", ["vega", "gap8"], file="space.toml", key="boards[0]")
    expected = "space.toml: boards[0]: unknown board 'vegga'; did you mean 'vega'? allowed: vega, gap8"
    assert str(error) == expected
    assert error.known == ("vega", "gap8")


def test_a_name_that_is_near_to_nothing_lists_what_is_allowed() -> None:
    assert errors.allowed_names("qqqqqq", ["vega", "gap8"]) == "allowed: vega, gap8"
    assert errors.allowed_names("vega", []) == "allowed: none"


@pytest.mark.parametrize("kind", [UnknownName, IllegalPlan, Unpriced])
def test_wrong_input_is_one_family(kind: type[DseError]) -> None:
    assert issubclass(kind, UserError)


def test_no_design_is_an_answer_and_not_wrong_input() -> None:
    assert issubclass(NothingFits, DseError)
    assert not issubclass(NothingFits, UserError)
