"""What docs/memory-map.md shows: its example, its table of peaks, its snippets, the arenas of the zoo."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dse
from benchmarks.bench_zoo_arenas import PLANS, placed
from dse.api import context_of
from dse.api.context import decided
from dse.cli import run
from dse.cost.certificate import Certified, certify
from dse.cost.model import price
from dse.errors import Unpriced
from dse.plan.decisions import PlanBatch
from dse.report.certificate.data import live_bytes

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "memory-map.md").read_text(encoding="utf-8")
EXAMPLE = PAGE[PAGE.index("## 1.") : PAGE.index("## 2.")]
TABLE = re.compile(r"^\*\*`(\S+)` on `(\S+)`(.*?)\*\*.*?\n\n((?:\|.*\n)+)", re.MULTILINE)
ROW = re.compile(r"^\| (.+?) \| ([\d,]+) B \| (.+?) \| (.+?) \|$", re.MULTILINE)
ROWS = [
    (network, board, given, *row)
    for network, board, given, rows in TABLE.findall(PAGE)
    for row in ROW.findall(rows)
]
GIVEN = {"replay": "none", "batch": (1, 0), "update": "in_place", "new_samples": "recompute"}


def fenced(text: str, language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("example") / "certificate"


def test_the_example_prints_what_the_page_shows(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(fenced(EXAMPLE, "sh").replace("\\\n", " "))
    assert words[0] == "dse"
    assert run([*words[1:], "--heuristic", "--to", str(example)]) == 0
    printed = capsys.readouterr().out.replace(str(example), "certificate")
    shown = fenced(EXAMPLE, "text").split("...\n")
    assert len(shown) == 3
    assert all(part in printed for part in shown)
    assert printed.startswith(shown[0])


def test_firmware_compiles_with_the_header(example: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc on this machine")
    (example / "firmware.c").write_text(fenced(PAGE, "c"), encoding="utf-8")
    flags = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only")
    done = subprocess.run(["gcc", *flags, str(example / "firmware.c")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_offsets_are_laid_out_by_the_tensors_of_a_file() -> None:
    names: dict[str, Any] = {}
    exec(fenced(PAGE, "python"), names)
    version, subgraphs, count, *offsets = np.frombuffer(names["metadata"], dtype="<i4").tolist()
    assert (version, subgraphs, count) == (0, 1, len(names["layers"]))
    assert offsets == [-1, *(tensor.offset for tensor in names["plan"].tensors), -1]


# --- peaks ---


def test_the_table_of_peaks_is_read() -> None:
    assert len(ROWS) == PAGE.count(" B | `") >= 20
    assert {network for network, *_ in ROWS} == {
        "mobilenet-v2-w0.35@resolution=96",
        "ds-cnn",
        "mobilenet-v2-w0.35",
    }


def decisions_in(text: str) -> dict[str, Any]:
    """Return the decisions of a cell: `name = value`, several of them with commas in between."""
    found = re.findall(r"`(\w+) = (?:\"([^\"]+)\"|(\d+))`", text)
    return {name: word or int(number) for name, word, number in found}


def certified(network: str, board: str, decisions: dict[str, Any]) -> tuple[Certified, str]:
    """Return the placed plan, and its time per image as the table writes it."""
    context = context_of(network, board)
    chosen = decided(context, None, GIVEN | decisions)
    event = {"operating_point": chosen.operating_point, "sleep_state": chosen.sleep_state}
    found = certify(context, chosen.plan, **event)
    try:
        costs = price(context, PlanBatch.from_plans(context.workload, [chosen.plan]), **event)
    except Unpriced:
        return found, "no price"
    return found, f"{1e3 * (costs.frozen_image_s + costs.minibatch_s).item():.0f} ms"


def fullest(found: Certified) -> str:
    """Return the operation during which all of RAM holds most."""
    volatile = {level.level for level in found.levels if level.volatile}
    operations = found.map.schedule.operations
    inside = [one for one in found.map.entries if one.level in volatile]
    return operations[int(live_bytes(inside, len(operations)).argmax())].name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}, {row[3]}")
def test_peaks_are_those_of_the_arenas(row: tuple[str, ...]) -> None:
    network, board, given, changed, size, moment, seconds = row
    found, took = certified(network, board, decisions_in(given) | decisions_in(changed))
    assert (f"{found.ram_arena_bytes:,}", f"`{fullest(found)}`", took) == (size, moment, seconds)
    assert all(level.arena.proven for level in found.levels if level.volatile)


def test_the_missing_split_is_the_one_that_the_search_finds() -> None:
    (network, board, given, changed, size, *_) = next(row for row in ROWS if 'checkpoints = "units' in row[3])
    decisions = GIVEN | decisions_in(given) | decisions_in(changed)
    split = decisions.pop("checkpoints")
    found = dse.segments(network, board=board, budget=303_104, **decisions).to_frame()
    assert found[found.chosen][["checkpoints", "peak_bytes"]].values.tolist() == [
        [split, int(size.replace(",", ""))]
    ]


@pytest.mark.parametrize("network", dse.list_networks())
def test_depthwise_layers_in_place_save_nothing_where_the_classifier_learns(network: str) -> None:
    sizes = [
        certified(network, "stm32l4r5", {"cut": "last", "in_place": word})[0].ram_arena_bytes
        for word in ("elementwise", "depthwise")
    ]
    assert sizes[0] == sizes[1]


# --- arenas of the zoo ---


def test_arenas_of_the_zoo_are_at_the_bound_but_for_one() -> None:
    arenas = {(network, number): placed(network, plan)[0]
              for network in dse.list_networks() for number, plan in enumerate(PLANS)}  # fmt: skip
    assert len(arenas) == 70
    above = {key: arena.gap for key, arena in arenas.items() if not arena.proven}
    assert list(above) == [("proxylessnas-w0.3", 6)]
    assert (
        f"`proxylessnas-w0.3`, cut 0, `saved_bits = 4`, micro-batch 2 | {100 * above.popitem()[1]:.3f} % |"
        in PAGE
    )
