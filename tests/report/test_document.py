"""The run folder: complete, reproducible to the byte, and true to the search."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import dse
from dse.errors import UserError
from dse.report import document
from tests.report.spaces import IMPOSSIBLE, STUDIED, TINY


@pytest.fixture(scope="module")
def found() -> Any:
    return dse.explore(STUDIED)


@pytest.fixture(scope="module")
def folder(found: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dse.write_run(found, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def report(folder: Path) -> str:
    return (folder / "report.md").read_text(encoding="utf-8")


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "timing.json"
    }


def test_every_file_is_there(folder: Path) -> None:
    figures = {
        f"figures/vega-hyperram-64-{what}.{ending}"
        for what in ("front", "memory", "energy", "latency")
        for ending in ("png", "svg")
    }
    tables = {"front.csv", "designs.parquet", "report.md", "run.json", "inputs/space.json"}
    assert set(content(folder)) == figures | tables
    assert json.loads((folder / "timing.json").read_text(encoding="utf-8"))["seconds"]


def test_the_same_inputs_make_the_same_bytes(tmp_path: Path) -> None:
    folders = [dse.write_run(dse.explore(TINY), tmp_path / name) for name in ("a", "b")]
    assert folders[0].name == folders[1].name
    first, second = map(content, folders)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_the_name_of_the_folder_follows_the_inputs() -> None:
    space = dse.load_space(TINY)
    other = dse.load_space({**TINY, "duty": {"events_per_day": 2}})
    base = document.folder_name(space, "exact", 0, 0, "feasible")
    assert re.fullmatch(r"tiny-[0-9a-f]{10}", base)
    assert base == document.folder_name(space, "exact", 0, 0, "feasible")
    assert (
        len(
            {
                base,
                document.folder_name(other, "exact", 0, 0, "feasible"),
                document.folder_name(space, "nsga2", 0, 0, "feasible"),
                document.folder_name(space, "exact", 1, 0, "feasible"),
                document.folder_name(space, "exact", 0, 0, "all"),
            }
        )
        == 5
    )


def test_front_csv_is_the_front(found: Any, folder: Path) -> None:
    table = pd.read_csv(folder / "front.csv")
    assert table["design"].tolist() == found.boards[0].front.index.tolist()
    assert table["event_j"].tolist() == found.boards[0].front.columns["event_j"].tolist()


def test_run_json_says_what_it_was_made_from(found: Any, folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    counts = found.boards[0].counts
    assert run["search"] == {
        "method": "exact", "complete": True, "seed": None, "trials": None, "priced": counts.total,
        "total": counts.total,
    }  # fmt: skip
    board = run["boards"]["vega + hyperram-64"]
    assert (
        sum(board["illegal"].values())
        + sum(board["rejected"].values())
        + board["accuracy_unknown"]
        + board["feasible"]
        == board["total"]
    )
    assert board["front"] + board["dominated"] + board["variants"] == board["feasible"]
    assert run["designs"] == {"file": "designs.parquet", "rows": counts.feasible, "which": "feasible"}
    assert run["versions"]["dse"] == dse.__version__
    assert "ravaglia2021" in run["sources"]["boards"]
    assert run["inputs"]["networks_sha256"]["mobilenet-v1"] == found.space.networks[0].content_hash


def test_the_report_answers_the_questions(found: Any, report: str) -> None:
    for phrase in (
        "Exact, complete front: all",
        "Most accurate",
        "alanced",
        "mallest",
        "within every budget, but of unknown accuracy",
        "events per day for one year of battery",
        "wear, levelled",
        "Fullest memory:",
        "three assumed numbers that matter most",
        "published CORe50; it answers for:",
        "arXiv:2110.10486",
        "Howard et al., arXiv 1704.04861",
    ):
        assert phrase in report, phrase
    for plan in found.boards[0].front.named:
        assert plan.why in report
        assert f"Design {plan.design}:" in report


def test_the_report_shows_intervals_of_assumed_numbers(report: str) -> None:
    lines = [line for line in report.splitlines() if line.startswith("| energy per event |")]
    assert lines
    assert all(" .. " in line for line in lines)


def test_links_of_the_report_lead_to_files(folder: Path, report: str) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", report)
    assert targets
    assert all((folder / target).is_file() for target in targets)


def test_where_nothing_fits_the_report_says_by_how_much(tmp_path: Path) -> None:
    found = dse.explore(IMPOSSIBLE)
    folder = dse.write_run(found, tmp_path)
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert "**Nothing fits.**" in report
    assert re.search(r"short by \d+ B at flash \(needs", report)
    assert "The design that the smallest relaxation admits: network mobilenet-v1" in report
    assert pd.read_csv(folder / "front.csv").empty
    assert "design" in pd.read_csv(folder / "front.csv").columns


def test_an_interrupted_run_leaves_nothing(
    found: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(document, "_figures", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dse.write_run(found, tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


def test_designs_may_be_left_out(tmp_path: Path) -> None:
    folder = dse.write_run(dse.explore(IMPOSSIBLE), tmp_path, designs="none")
    assert not (folder / "designs.parquet").exists()
    with pytest.raises(UserError, match="one of feasible, all, none"):
        dse.write_run(dse.explore(IMPOSSIBLE), tmp_path, designs="some")


def test_a_sampled_run_says_so(tmp_path: Path) -> None:
    found = dse.explore(TINY, method="random", trials=8, seed=3)
    folder = dse.write_run(found, tmp_path)
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (run["search"]["complete"], run["search"]["seed"], run["search"]["trials"]) == (False, 3, 8)
    assert run["designs"]["file"] is None
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "Sampled by random (seed 3):" in text
    assert "complete front" not in text


def test_the_subtitle_of_a_front_counts_the_designs_of_its_own_board() -> None:
    found = dse.explore({**TINY, "boards": ["stm32l4r5", "stm32h743"]})
    for result in found.boards:
        counts = result.counts
        assert counts.total < found.space.size
        assert document._subtitle(found, result) == (
            f"exact, complete front: all {counts.total:,} designs priced; "
            f"{counts.feasible:,} feasible designs"
        )
