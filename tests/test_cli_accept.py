"""``--accept``: what a board has no figure for, priced within a bound that the user or the board gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dse
from dse.api.certificate import point_of
from dse.api.context import context_of
from dse.api.explorations import run_folder
from dse.cli import run
from dse.cost.model import price
from dse.errors import Unpriced, UserError
from dse.hardware.accept import accepted_prices
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.report.inputs import load_run
from tests.workload.recurrent import GATED, write

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["--cut", "last", "--images-per-event", "10", "--batch", "10+0"]
ACCEPT = ["--accept", "lstm=0.05..0.5", "--accept", "sigmoid"]

SPACE = """
name = "recurrent"
networks = ["network.toml"]
boards = ["stm32l4r5", "vega"]
objectives = ["ram_peak_bytes", "event_s"]
accuracy = "none"

[choices]
cut = "last"
replay = "none"
batch = [[10, 0]]
images_per_event = 10
"""

SIGMOID = """
[[element]]
library = "dory"
operation = "sigmoid"
pass = "fwd"
dtype = "int8"
cores = 8
cycles_per_element = { value = 3, low = 1, high = 9, kind = "assumed", source = "estimate" }
"""


@pytest.fixture
def network(tmp_path: Path) -> str:
    return str(write(GATED, tmp_path))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["estimate", "explain"])
def test_without_a_price_the_answer_is_what_to_accept(
    command: str, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, network, "stm32l4r5", *SMALL]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "stm32l4r5: lstm: no forward figure in int8: 99.6 % of the MACs (cells); "
        "--accept lstm, or --accept lstm=LOW..HIGH in MAC/cycle",
        "stm32l4r5: sigmoid: no forward figure in int8: 100 % of the elements (gate); "
        "--accept sigmoid, or --accept sigmoid=LOW..HIGH in cycles per element",
    ]


@pytest.mark.parametrize("command", ["estimate", "explain"])
def test_what_is_accepted_is_listed_with_its_share_and_bound(
    command: str, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, network, "stm32l4r5", *SMALL, *ACCEPT]) == 0
    text = said(capsys)
    assert "accepted without a figure of stm32l4r5:" in text
    assert "lstm: 99.6 % of the MACs (cells), 0.05 .. 0.5 MAC/cycle in int8 (bound as given)" in text
    assert (
        "sigmoid: 100 % of the elements (gate), 2.5 .. 126 cycles per element in int8 (from the board's"
        in text
    )
    assert "fp32" not in text.partition("accepted without")[2].partition("uncertain")[0]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["--accept", "gru"], "option: accept: keyword has no operation 'gru'; "),
        (["--accept", "linear"], "option: accept.linear: stm32l4r5 prices it already; "),
        (["--accept", "lstm=5..1"], "option: accept: lstm = '5..1'; OPERATION, or"),
        (["--accept", "lstm", "--accept", "lstm=1..2"], "option: accept.lstm: given twice; say it once"),
    ],
)
def test_what_cannot_be_accepted(
    given: list[str], error: str, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["estimate", network, "stm32l4r5", *SMALL, *given]) == 2
    assert error in capsys.readouterr().err


def test_a_bound_that_no_figure_gives_is_asked_for(network: str, tmp_path: Path) -> None:
    board = dse.load_board("stm32l4r5")
    bare = board.model_copy(update={"elements": tuple(one for one in board.elements if one.dtype == "fp32")})
    with pytest.raises(UserError) as caught:
        dse.estimate(network, bare, cut="last", accept=["lstm", "sigmoid"])
    assert "no bound for sigmoid" in str(caught.value)
    assert "--accept sigmoid=LOW..HIGH in cycles per element" in str(caught.value)


def test_the_map_of_such_a_plan_is_placed_and_not_executed(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["certify", network, "stm32l4r5", *SMALL, "--to", str(tmp_path / "map")]) == 0
    text = said(capsys)
    assert "2 layers run forward only (sigmoid, lstm)" in text
    assert "priced and placed, not executed" in text


@pytest.mark.parametrize(
    "command", [["select"], ["contribute", "--task", "digits"], ["contribute", "--published", "x.csv"]]
)
def test_commands_that_run_every_layer_refuse(
    command: list[str], network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command[0], network, *command[1:], "--out", str(tmp_path)]) == 2
    assert "2 layers run forward only (sigmoid, lstm)" in capsys.readouterr().err


def test_checkpoints_look_above_the_cut(network: str) -> None:
    assert dse.segments(network, cut="last").places == ()
    with pytest.raises(UserError):
        dse.segments(network, cut="input")


# --- spaces ---


def space(tmp_path: Path, more: str = "") -> Path:
    write(GATED, tmp_path)
    path = tmp_path / "space.toml"
    path.write_text(SPACE + more, encoding="utf-8")
    return path


def test_a_space_that_no_board_prices_says_so_before_it_searches(tmp_path: Path) -> None:
    with pytest.raises(Unpriced) as caught:
        dse.explore(space(tmp_path))
    told = [(problem.file, problem.key) for problem in caught.value.problems]
    assert told == [(board, word) for board in ("stm32l4r5", "vega") for word in ("lstm", "sigmoid")]


def test_each_board_of_a_space_names_what_it_has_no_price_for(tmp_path: Path) -> None:
    board = ROOT / "hwprofiles" / "vega.toml"
    (tmp_path / "vega.toml").write_text(board.read_text(encoding="utf-8") + SIGMOID, encoding="utf-8")
    path = space(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace('"vega"', '"vega.toml"'), encoding="utf-8")
    with pytest.raises(Unpriced) as caught:
        dse.explore(path)
    told = [(problem.file, problem.key) for problem in caught.value.problems]
    assert told == [("stm32l4r5", "lstm"), ("stm32l4r5", "sigmoid"), ("vega", "lstm")]


def test_a_table_of_a_space_says_what_the_option_says(tmp_path: Path) -> None:
    tabled = dse.load_space(space(tmp_path, "\n[accept]\nlstm = [0.05, 0.5]\nsigmoid = true\n"))
    asked = dse.load_space(space(tmp_path), accept=["lstm=0.05..0.5", "sigmoid"])
    assert tabled.content_hash == asked.content_hash
    assert (
        tabled.content_hash
        != dse.load_space(space(tmp_path), accept=["lstm=0.05..0.6", "sigmoid"]).content_hash
    )
    assert tabled.tables["accept"] == asked.tables["accept"]
    assert dse.explore(asked).boards[0].counts.feasible


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ("gru = true", "accept: keyword has no operation 'gru'"),
        ("linear = true", "accept.linear: stm32l4r5 and vega prices it already"),
        ("lstm = [2, 1]", "accept: lstm = [2, 1]; OPERATION"),
        ("lstm = false", "accept: lstm = False; OPERATION"),
    ],
)
def test_mistakes_in_the_table(table: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        dse.load_space(space(tmp_path, f"\n[accept]\n{table}\n"))
    assert error in str(caught.value)


def test_a_run_records_what_was_accepted(tmp_path: Path) -> None:
    path, out = space(tmp_path), str(tmp_path / "runs")
    assert run(["explore", str(path), *ACCEPT, "--out", out, "--designs", "none"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    tables = json.loads((folder / "inputs" / "space.json").read_text(encoding="utf-8"))
    assert tables["accept"] == {"lstm": [0.05, 0.5], "sigmoid": True}
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert "## Accepted prices" in report
    assert "lstm: 99.6 % of the MACs (cells), 0.05 .. 0.5 MAC/cycle in int8 (bound as given)" in report
    again = dse.load_space(path, accept=["sigmoid", "lstm=0.05..0.5"])
    assert run_folder(again, out, designs="none") == folder  # the same inputs, the same folder
    assert run_folder(dse.load_space(path, accept=["lstm", "sigmoid"]), out, designs="none") != folder
    assert load_run(folder).space.content_hash == again.content_hash
    assert accepted_prices(point_of(folder, out, board="stm32l4r5").context.board)


def test_a_price_is_accepted_for_the_kernels_that_the_plan_runs(network: str) -> None:
    plan = TrainingPlan(cut=1, n_replays=100, new_per_batch=5, replays_per_batch=5, images_per_event=10)
    seconds = []
    for kernels in ({}, {"int8": "plumerai"}):
        accept = ["lstm=0.1..0.1", "sigmoid=5..5"]
        context = context_of(network, "stm32l4r5", kernels=kernels, accept=accept)
        costs = price(context, PlanBatch.from_plans(context.workload, [plan]))
        seconds.append(float(costs.frozen_image_s[0]))
    assert seconds[0] == pytest.approx(seconds[1])  # all that it runs there was accepted


def test_one_bound_does_not_do_for_two_units(tmp_path: Path) -> None:
    odd = 'operation = "custom:odd", shape = [8]'
    text = GATED.replace(
        '  { kind = "linear"',
        f'  {{ kind = "forward_only", name = "a", {odd}, forward_macs = 64 }},\n'
        f'  {{ kind = "forward_only", name = "b", {odd} }},\n  {{ kind = "linear"',
    ).replace("legal_cuts = [0, 1]", "legal_cuts = [1, 2]")
    path = str(write(text, tmp_path))
    with pytest.raises(UserError) as caught:
        dse.estimate(path, "stm32l4r5", cut="last", accept=["lstm", "sigmoid", "custom:odd=1..2"])
    assert "custom:odd is priced by MACs in one layer and by elements in another" in str(caught.value)
    assert dse.estimate(path, "stm32l4r5", cut="last", accept=["lstm", "sigmoid", "custom:odd"])
