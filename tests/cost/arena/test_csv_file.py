"""MiniMalloc's CSV: read, written, and every mistake named with its row and column."""

from __future__ import annotations

import pytest

from dse.cost.arena import ArenaBuffer, place
from dse.cost.arena.csv_file import MOST_BYTES, SHOWN_PROBLEMS, csv_text, read_buffers
from dse.cost.arena.problem import MOST_BUFFERS
from dse.errors import UserError

README = "id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\nb4,9,21,4\nb5,0,21,4\n"
"""The example of MiniMalloc's README, which fits 12 bytes."""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "buffers.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems(path):
    with pytest.raises(UserError) as error:
        read_buffers(path)
    assert {problem.file for problem in error.value.problems} == {str(path)}
    return [(problem.key, problem.found) for problem in error.value.problems]


def test_lifespans_are_half_open(file):
    table = read_buffers(file(README))
    assert table.buffers[1] == ArenaBuffer("b2", 3, 8, 4, 1)
    arena = place(table.buffers)
    assert (arena.size_bytes, arena.proven) == (12, True)
    lines = table.text(arena.offsets).splitlines()
    assert lines[0] == "id,lower,upper,size,offset"
    assert lines[2] == f"b2,3,9,4,{arena.offsets['b2']}"


def test_what_is_written_is_read_back_and_columns_keep_their_order(file):
    text = (
        "role,size,id,upper,lower,offset,level,alignment,gaps\nweights,8,a b,4,0,16,L2,8,\n,4,ü,9,1,0,L2,4,\n"
    )
    table = read_buffers(file("\ufeff" + text.replace("\n", "\r\n")))
    assert table.buffers == (ArenaBuffer("a b", 0, 3, 8, 8), ArenaBuffer("ü", 1, 8, 4, 4))
    assert table.given_offsets() == {"a b": 16, "ü": 0}
    assert table.text(table.given_offsets()) == text
    assert read_buffers(file(table.text({"a b": 8, "ü": 4}))).given_offsets() == {"a b": 8, "ü": 4}


@pytest.mark.parametrize(
    ("row", "column", "found"),
    [
        ("a,5,3,4,4,", "upper", "lifespan [5, 3) is negative"),
        ("a,3,3,4,4,", "upper", "lifespan [3, 3) is empty"),
        ("a,-1,3,4,4,", "lower", "'-1'"),
        ("a,0,3,0,4,", "size", "'0'"),
        ("a,0,3,-4,4,", "size", "'-4'"),
        ("a,0,3,4.5,4,", "size", "'4.5'"),
        ("a,0,3,,4,", "size", "''"),
        ("a,0,3,1e3,4,", "size", "'1e3'"),
        ("a,0,3,²,4,", "size", "'²'"),
        ("a,0,3, 4,4,", "size", "' 4'"),
        (f"a,0,3,{'9' * 5000},4,", "size", f"'{'9' * 40}'"),
        (f"a,0,{2**40 + 1},4,4,", "upper", f"'{2**40 + 1}'"),
        ("a,0,3,4,12,", "alignment", "'12'"),
        ("a,0,3,4,0,", "alignment", "'0'"),
        ("a,0,3,4,,", "alignment", "''"),
        ("a,0,3,4,4,-8", "offset", "'-8'"),
        ("a,0,3,4,4,x", "offset", "'x'"),
        (",0,3,4,4,", "id", "''"),
        (f"{'x' * 201},0,3,4,4,", "id", f"'{'x' * 40}'"),
        ("good,0,3,4,4,", "id", "'good' stands in row 2 already"),
    ],
)
def test_a_wrong_field_is_named_with_its_row_and_column(file, row, column, found):
    path = file(f"id,lower,upper,size,alignment,offset\ngood,0,3,4,4,0\n{row}\n")
    assert problems(path) == [(f"row 3, column {column!r}", found)]


def test_all_problems_come_at_once(file):
    path = file("id,lower,upper,size\na,0,0,4\na,x,y,-1\nb,1\n\nb,0,1,4\n")
    assert [key for key, _ in problems(path)] == [
        "row 4", "row 5", "row 2, column 'upper'", "row 3, column 'lower'", "row 3, column 'upper'",
        "row 3, column 'size'", "row 3, column 'id'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key", "found"),
    [
        ("", "row 1", "no header"),
        ("\n\n", "row 1", "no header"),
        ("id,lower,upper\n", "row 1, column 'size'", "missing"),
        ("id,lower,upper,size,size\n", "row 1, column 'size'", "there twice"),
        ("id,lower,upper,size,alignmnt\n", "row 1, column 'alignmnt'", "unknown column"),
        ("id,lower,upper,size\na,0,1,4,5\n", "row 2", "5 fields"),
        ('id,lower,upper,size\n"a",0,1,4\n', "row 2", "a quotation mark"),
        ("id,lower,upper,size,gaps\na,0,9,4,2-3\n", "row 2, column 'gaps'", "'2-3'"),
        ("id,lower,upper,size,hint\na,0,9,4,0\n", "row 2, column 'hint'", "'0'"),
        (b"id,lower,upper,size\na\0,0,1,4\n", "row 2", "holds a NUL byte"),
        (b"id,lower,upper,size\n\xff,0,1,4\n", "row 2", "is not UTF-8"),
        (b"x" * (MOST_BYTES + 1), "", "is too large"),
        ("id,lower,upper,size\n" + "a,0,1,4\n" * (MOST_BUFFERS + 1), "rows", str(MOST_BUFFERS + 1)),
    ],
)
def test_a_wrong_file_is_named(file, text, key, found):
    assert problems(file(text)) == [(key, found)]


def test_the_older_form_is_explained(file):
    with pytest.raises(UserError) as error:
        read_buffers(file("buffer_id,start,end,size\n0,0,9,4\n"))
    said = str(error.value)
    assert "column 'end': the older form, with inclusive lifespans; upper (= end + 1)" in said
    assert "column 'lower': missing" in said


def test_a_file_that_is_wrong_throughout_is_cut(file):
    found = problems(file("id,lower,upper,size\n" + "".join(f"{n},0,1,0\n" for n in range(200))))
    assert len(found) == SHOWN_PROBLEMS + 1
    assert found[-1] == ("", "150 more problems of this kind")


def test_what_is_no_file(tmp_path):
    assert problems(tmp_path)[0][1] == "cannot be read: Is a directory"
    assert problems(tmp_path / "none.csv")[0][1] == "cannot be read: No such file or directory"
    assert "null byte" in problems("a\0b")[0][1]


def test_offsets_to_check_have_to_be_there(file):
    with pytest.raises(UserError, match="column 'offset': missing"):
        read_buffers(file(README)).given_offsets()
    with pytest.raises(UserError, match="row 3, column 'offset': empty"):
        read_buffers(file("id,lower,upper,size,offset\na,0,1,4,0\nb,0,1,4,\n")).given_offsets()


def test_fields_that_would_need_quotes_are_not_written():
    with pytest.raises(ValueError, match="commas"):
        csv_text(("id",), [{"id": "a,b"}])
