"""``dse plan`` and ``dse certify``: exit codes, and places that no certificate can be written to."""

from __future__ import annotations

from pathlib import Path

import pytest

import dse
from dse.api import certificate as api
from dse.cli import run

CERTIFY = (
    "certify", "har-cnn-1d", "stm32l476rg", "--cut", "3", "--batch", "2+2", "--n-replays", "4",
    "--images-per-event", "4", "--heuristic",
)  # fmt: skip
SPACE = {
    "name": "one", "networks": ["har-cnn-1d"], "boards": ["stm32l476rg"], "accuracy": "none",
    "objectives": ["ram_peak_bytes", "event_j"],
    "choices": {"cut": [3], "n_replays": [20], "batch": [[2, 2]], "images_per_event": [10],
                "micro_batch": [1, "batch"]},
}  # fmt: skip


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments):
        code = run(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


@pytest.fixture
def no_work(monkeypatch):
    """Any placement fails the test."""

    def placed(*arguments, **options):
        raise AssertionError("a plan was placed")

    monkeypatch.setattr(api, "placed", placed)


def test_a_certificate_says_that_it_was_executed_and_where(command):
    code, out, err = command(*CERTIFY, "--to", "map")
    said = " ".join(out.split())
    assert (code, err) == (0, "")
    assert "executed on random numbers: one captured image, " in said
    assert " of SRAM and " in said
    assert " of flash; " in said
    assert (Path("map") / "memory_map.h").is_file()


def test_a_certificate_without_an_execution_says_so(command):
    code, out, _ = command(*CERTIFY, "--no-execute", "--to", "map")
    assert code == 0
    for text in (out, Path("map/certificate.md").read_text()):
        assert "not executed: whether these lifespans carry a step was not tried" in text


@pytest.mark.parametrize(("to", "said"), [
    (".", "is the working folder, or holds it"), ("..", "is the working folder, or holds it"),
    ("/", "is the working folder, or holds it"), ("sub/..", "is the working folder, or holds it"),
    ("", "the path of a folder of its own"), (" ", "the path of a folder of its own"),
    ("file", "is a file"), ("file/map", "cannot be made"), ("x" * 300, "cannot be written"),
    ("loop/map", "cannot be"), ("nul\0", "cannot be written"), ("taken", "a folder is called memory_map.h"),
    ("level", "a folder is called memory_map-sram.csv"), ("/proc/map", "cannot be written"),
])  # fmt: skip
@pytest.mark.usefixtures("no_work")
def test_places_that_cannot_be_are_refused_before_the_work(command, to, said):
    Path("file").write_text("mine")
    Path("loop").symlink_to("loop")
    Path("taken/memory_map.h").mkdir(parents=True)
    Path("level/memory_map-sram.csv").mkdir(parents=True)
    before = sorted(Path().rglob("*"))
    code, out, err = command(*CERTIFY, "--to", to)
    assert (code, out) == (2, "")
    assert said in err
    assert sorted(Path().rglob("*")) == before


def test_a_link_to_a_folder_stays_a_link(command):
    Path("real").mkdir()
    Path("real/notes.txt").write_text("mine")
    Path("link").symlink_to("real")
    assert command(*CERTIFY, "--no-execute", "--to", "link")[0] == 0
    assert Path("link").is_symlink()
    assert {"notes.txt", "memory_map.csv"} <= {path.name for path in Path("real").iterdir()}
    assert sorted(path.name for path in Path().iterdir()) == ["link", "real"]


def test_a_plan_of_a_run_and_a_place_that_cannot_be(command, monkeypatch):
    place = dse.write_run(dse.explore(SPACE), Path("runs"))
    code, out, _ = command("plan", str(place), "--no-execute", "--heuristic")
    assert code == 0
    assert str(place / "plan-smallest") in out
    assert "DSE_HAR_CNN_1D_STM32L476RG_SMALLEST_BUF_" in (place / "plan-smallest/memory_map.h").read_text()
    monkeypatch.setattr(api, "placed", None)
    (place / "plan-balanced").write_text("mine")
    for arguments in ((str(place), "--point", "balanced"), (str(place), "--to", ".")):
        code, _, err = command("plan", *arguments)
        assert code == 2
        assert "is a file" in err or "is the working folder" in err
