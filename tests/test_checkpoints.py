"""``dse.segments`` and ``dse checkpoints``: what is chosen, what is said, what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import dse
from dse.api.checkpoints import budget_of
from dse.cli import run
from dse.errors import IllegalPlan, UserError

DECISIONS: dict[str, Any] = {
    "cut": "input", "replay": "none", "batch": (1, 0), "update": "in_place", "new_samples": "recompute",
}  # fmt: skip
OPTIONS = (
    "resnet8", "--cut", "input", "--replay", "none", "--batch", "1+0", "--update", "in_place",
    "--new-samples", "recompute",
)  # fmt: skip


def test_the_split_within_a_budget_is_that_of_the_front() -> None:
    free = dse.segments("resnet8", **DECISIONS)
    second = free.splits[1]
    assert (free.chosen, len(free.splits)) == (None, 3)
    assert dse.segments("resnet8", budget=second.peak_bytes, **DECISIONS).chosen == second
    assert dse.segments("resnet8", budget="10MiB", **DECISIONS).chosen == free.splits[0]


def test_plans_files_and_decisions_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(
        'cut = "input"\nreplay = "none"\nbatch = [1, 0]\nupdate = "in_place"\nnew_samples = "recompute"\n'
        'checkpoints = "units 0"\n',
        encoding="utf-8",
    )
    by_words = dse.segments("resnet8", **DECISIONS)
    assert dse.segments("resnet8", path) == by_words
    assert dse.segments("resnet8", by_words.planned(by_words.splits[-1])) == by_words
    narrow = dse.segments("resnet8", path, saved_bits=4)
    assert narrow.splits[0].peak_bytes < by_words.splits[0].peak_bytes


def test_a_board_adds_the_workspace_of_its_kernels() -> None:
    """The frozen stage sets the peak: its int8 kernels unfold two patches of 3x3x16 on each of 8 cores."""
    frozen: dict[str, Any] = {"cut": "last", "replay": "none", "batch": (1, 0)}
    plain, on_board = (dse.segments("resnet8", board=board, **frozen) for board in (None, "vega"))
    assert on_board.least_bytes == plain.least_bytes + 2 * 8 * 9 * 16


def test_the_peak_is_that_of_the_estimate_where_weights_are_non_volatile() -> None:
    found = dse.segments("resnet8", board="stm32h743", **DECISIONS)
    for split in found.splits:
        costs = dse.estimate(
            "resnet8", "stm32h743", found.planned(split), intervals=False, accuracy="none"
        ).costs
        assert float(costs.ram_peak_bytes.ravel()[0]) == split.peak_bytes


@pytest.mark.parametrize(
    ("text", "expected"), [("64KiB", 65536), ("1.5 MiB", 1572864), ("300", 300), ("7 B", 7), (9.0, 9)]
)
def test_budgets(text: str | float, expected: int) -> None:
    assert budget_of(text) == expected


@pytest.mark.parametrize("text", ["", "64kB", "-1", "0", "KiB", "1e3", "inf", "9" * 400, True])
def test_budgets_that_are_none(text: Any) -> None:
    with pytest.raises(UserError, match=r"segments: budget: .*such as 64KiB"):
        dse.segments("resnet8", budget=text, **DECISIONS)


def test_what_is_looked_for_is_no_decision() -> None:
    with pytest.raises(UserError, match="plan: checkpoints: 'every 1'; nothing: it is what is looked for"):
        dse.segments("resnet8", checkpoints="every 1", **DECISIONS)


def test_plans_that_no_device_executes_are_refused() -> None:
    with pytest.raises(IllegalPlan):
        dse.segments("resnet8", micro_batch=5, batch=(4, 0))


# --- the command ---


def test_the_command_prints_the_front_and_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("checkpoints", *OPTIONS, "--budget", "664KiB")) == 0
    said = capsys.readouterr().out
    for split in dse.segments("resnet8", **DECISIONS).splits:
        assert f"{split.peak_bytes:,}" in said
        assert f'checkpoints = "{split.checkpoints}"' in said
    assert 'Least work within 664 KiB: checkpoints = "units 0", 679,464 B, 3.54 %' in said
    assert next(line.startswith("  *") for line in said.splitlines() if 'units 0"' in line)


def test_without_a_budget_nothing_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("checkpoints", *OPTIONS)) == 0
    assert "*" not in capsys.readouterr().out


def test_where_nothing_fits_it_says_how_much_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("checkpoints", *OPTIONS, "--budget", "300KiB")) == 1
    said = capsys.readouterr().out
    least = dse.segments("resnet8", **DECISIONS).least_bytes
    assert f"the least peak, {least:,} B, is {least - 300 * 1024:,} B too large." in said


def test_where_there_is_nothing_to_split_the_front_is_one_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("checkpoints", "resnet8")) == 0
    assert "no place above the cut" in capsys.readouterr().out


def test_where_there_is_nothing_to_split_it_names_cuts_that_leave_something(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(("checkpoints", "resnet8")) == 0
    said = capsys.readouterr().out
    cuts = re.search(r"--cut ([^.]*)\.", said)
    assert cuts is not None
    for cut in cuts[1].split(", "):
        replay = "raw" if cut == "input" else "latent"
        assert dse.segments("resnet8", cut=int(cut) if cut.isdigit() else cut, replay=replay).places
    assert not dse.segments("resnet8", cut=9).places


@pytest.mark.parametrize("board", ["stm32h743", "vega", "gap8"])
@pytest.mark.parametrize(
    "decisions", [{"n_replays": 100}, {"n_replays": 20000}, {"replay": "none"}, {"saved_bits": 4}]
)
def test_with_what_stands_beside_it_the_peak_is_that_of_the_estimate(
    decisions: dict[str, Any], board: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = dse.segments("resnet8", board=board, cut=2, **decisions)
    words = [word for name, value in decisions.items() for word in (f"--{name}".replace("_", "-"), value)]
    assert run(("checkpoints", "resnet8", "--cut", "2", "--board", board, *map(str, words))) == 0
    said = " ".join(capsys.readouterr().out.split())
    estimate = dse.estimate("resnet8", board, found.planned(found.splits[-1]), intervals=False)
    assert f"of {estimate.value('ram_peak_bytes'):,.0f} B." in said


def test_without_a_board_new_samples_are_counted_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """14 mini-batches of 21 new latents of 64 bytes, and a label each."""
    assert run(("checkpoints", "resnet8", "--cut", "last")) == 0
    said = capsys.readouterr().out
    assert f"{14 * 21 * 65:,} B for this plan" in " ".join(said.split())
    assert all(len(line) <= 80 for line in said.splitlines())


@pytest.mark.parametrize(
    ("given", "said"), [("679464", "679464 B"), ("0.7MiB", "0.7 MiB"), ("1024 KiB", "1024 KiB")]
)
def test_a_budget_is_shown_in_the_unit_it_was_given_in(
    given: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(("checkpoints", *OPTIONS, "--budget", given)) == 0
    assert f"Least work within {said}:" in capsys.readouterr().out


def test_units_that_cannot_be_split_behind_are_named_with_those_that_can() -> None:
    with pytest.raises(IllegalPlan) as error:
        dse.estimate("resnet8", "stm32h743", cut=2, checkpoints="units 3 5 20", intervals=False)
    (problem,) = error.value.problems
    assert (problem.key, problem.allowed) == ("checkpoints", "behind units 5 8 9")
    assert "not so behind units 3 20, with cut 2" in problem.found
    with pytest.raises(IllegalPlan, match=r"behind unit 5, with cut 9.*'none': there is no place above"):
        dse.estimate("resnet8", "stm32h743", cut=9, checkpoints="units 5", intervals=False)


def test_mistakes_are_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("checkpoints", *OPTIONS, "--budget", "lots")) == 2
    assert "segments: budget: 'lots'" in capsys.readouterr().err
