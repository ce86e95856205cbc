"""``dse arena``: what it prints and writes, its exit codes, and input that tries to break it."""

from __future__ import annotations

from pathlib import Path

import pytest

import dse
from dse.cli import run
from dse.cli.arena import read_bytes
from dse.errors import NothingFits, UserError

BUFFERS = "id,lower,upper,size,alignment,role\nweights,0,9,100,4,w\nx,0,4,10,4,a\ny,2,9,20,4,a\n"


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("buffers.csv").write_text(BUFFERS)

    def call(*arguments):
        code = run(["arena", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def test_buffers_are_placed_written_and_checked(command):
    code, out, err = command("buffers.csv", "--capacity", "1KiB", "--out", "placed.csv")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "3 buffers in one arena",
        "  live bytes  130 B during operation 2, the most",
        "  bound       130 B, with padding that no placement avoids",
        "  arena       130 B, 0 % above the bound",
        "  method      stacked",
        "  proven      yes, no placement is smaller",
        "  capacity    1024 B, 894 B spare",
        "",
        "placed.csv",
    ]
    written = Path("placed.csv").read_text()
    assert written.splitlines()[:2] == [
        "id,lower,upper,size,alignment,role,offset",
        "weights,0,9,100,4,w,0",
    ]
    assert sorted(path.name for path in Path().iterdir()) == ["buffers.csv", "placed.csv"]
    code, out, _ = command("placed.csv", "--check")
    assert code == 0
    assert "as given" in out
    assert out.endswith("valid: no overlap, all within the arena, all aligned\n")


def test_a_wrong_offset_is_a_violation(command):
    text = "id,lower,upper,size,alignment,offset\na,0,4,8,4,0\nb,2,6,8,4,6\n"
    Path("wrong.csv").write_text(text)
    code, out, err = command("wrong.csv", "--check", "--capacity", "10")
    assert (code, err) == (1, "")
    assert out.splitlines()[-4:] == [
        "invalid: 3 violations",
        "  offset 6 is not a multiple of 4: 'b', operations 2 to 5, bytes 6 to 14 (exclusive)",
        "  outside the arena of 10 bytes: 'b', operations 2 to 5, bytes 6 to 14 (exclusive)",
        "  overlap: 'a' and 'b', operations 2 to 3, bytes 6 to 8 (exclusive)",
    ]
    assert Path("wrong.csv").read_text() == text


def test_what_does_not_fit_exits_with_1_and_writes_nothing(command):
    code, out, err = command("buffers.csv", "--capacity", "120", "--out", "placed.csv")
    assert (code, out) == (1, "")
    assert "10 B are missing: operation 2 has 130 live bytes, above the capacity of 120 B" in err
    assert [line.split(":")[0].strip() for line in err.splitlines()[2:]] == ["weights", "y", "x"]
    assert not Path("placed.csv").exists()


def test_the_solver_is_used_on_request(command):
    code, out, _ = command("buffers.csv", "--exact", "--seed", "3")
    assert code == 0
    assert "proven      yes" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("none.csv", "none.csv: cannot be read: No such file or directory"),
        ("buffers.csv --check", "buffers.csv: column 'offset': missing"),
        ("buffers.csv --check --exact", "--check: with --exact or --out"),
        ("buffers.csv --check --out x.csv", "--check: with --exact or --out"),
        ("buffers.csv --capacity 0", "capacity_bytes: 0"),
        ("buffers.csv --capacity -1", "--capacity: '-1'"),
        ("buffers.csv --capacity 12parsecs", "--capacity: '12parsecs'"),
        ("buffers.csv --capacity 0.3B", "a whole number of bytes"),
        (f"buffers.csv --capacity {'9' * 5000}", "--capacity"),
        ("buffers.csv --seed -1", "--seed"),
        (f"buffers.csv --out {'x' * 300}.csv", "File name too long"),
        ("buffers.csv --out none/x.csv", "none/x.csv: cannot be written"),
        ("buffers.csv --out .", "is a folder"),
        ("bad.csv", "bad.csv: row 3, column 'size': '-4'"),
        ("levels.csv", "levels.csv: column 'level': several levels: 'L1', 'L2'"),
    ],
)
def test_wrong_input_exits_with_2_and_writes_nothing(command, arguments, said):
    Path("bad.csv").write_text("id,lower,upper,size\na,0,4,8\nb,2,6,-4\n")
    Path("levels.csv").write_text("id,lower,upper,size,level\na,0,4,8,L1\nb,2,6,4,L2\n")
    code, out, err = command(*arguments.split())
    assert (code, out) == (2, "")
    assert said in err
    assert sorted(path.name for path in Path().iterdir()) == ["bad.csv", "buffers.csv", "levels.csv"]


@pytest.mark.parametrize(
    ("text", "count"),
    [("1048576", 2**20), ("1MiB", 2**20), ("64kB", 64000), ("1.5 KiB", 1536), ("2gib", 2**31), ("7b", 7)],
)
def test_sizes_are_read(text, count):
    assert read_bytes(text) == count


def test_the_same_from_python(command, tmp_path):
    arena = dse.place_buffers("buffers.csv", out=tmp_path / "placed.csv")
    assert dse.check_offsets("placed.csv").violations == ()
    assert dse.check_offsets("placed.csv").arena.offsets == arena.offsets
    buffers = [dse.ArenaBuffer("a", 0, 3, 8), dse.ArenaBuffer("b", 2, 5, 8)]
    assert dse.place_buffers(buffers).size_bytes == 16
    with pytest.raises(NothingFits, match="1 B are missing"):
        dse.place_buffers(buffers, capacity_bytes=15)
    with pytest.raises(UserError, match="only where the buffers come from a file"):
        dse.place_buffers(buffers, out="x.csv")
