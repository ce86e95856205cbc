"""The C header: a compiler takes the map as it is and refuses it with any number that breaks it."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dse.plan.memory_map import Placed
from dse.report.certificate import header_text
from dse.report.certificate.data import on_level
from dse.report.certificate.header import neighbours
from dse.report.certificate.identifiers import c_identifiers, comment
from tests.report.certificate.maps import certificate_of, drawn, hand_made, moved

C = ("gcc", "-std=c11", "c")
CPP = ("g++", "-std=c++11", "c++")
PREFIX = "DSE_RESNET8_SOME_BOARD_"


def brief(text: str) -> str:
    """Names without what all of them begin with."""
    return text.replace(PREFIX, "M_")


DIALECTS = (C, CPP, ("gcc", "-std=c17", "c"), ("g++", "-std=c++17", "c++"))


def compiled(text: str, folder: Path, dialect: tuple[str, str, str] = C) -> tuple[int, str]:
    """Compile a program that includes the header twice, and uses it."""
    compiler, standard, language = dialect
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} on this machine")
    (folder / "memory_map.h").write_text(text, encoding="utf-8")
    (prefix,) = re.findall(r"^#ifdef (\w+)MEMORY_MAP_H$", text, re.MULTILINE)
    program = f'#include "memory_map.h"\n#include "memory_map.h"\nchar arena[{prefix}ARENA_SRAM_SIZE];\n'
    (folder / "program.c").write_text(program, encoding="utf-8")
    flags = (standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only")
    done = subprocess.run(
        [compiler, *flags, "-x", language, str(folder / "program.c")], capture_output=True, text=True
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect[1])
def test_compilers_take_the_header(dialect: tuple[str, str, str], tmp_path: Path) -> None:
    assert compiled(header_text(certificate_of(hand_made())), tmp_path, dialect) == (0, "")


@pytest.mark.parametrize(
    ("buffer", "offset", "message"),
    [
        ("latents", 174, "is not aligned"),
        ("gradient", 276, "M_BUF_GRADIENT ends behind its arena"),
        ("error", 212, "M_BUF_LOGITS overlaps M_BUF_ERROR"),
        ("weights", 16, "M_BUF_WEIGHTS overlaps M_BUF_FRAME"),
        ("replays", 428, "M_BUF_FROZEN overlaps M_BUF_REPLAYS"),
    ],
)
@pytest.mark.parametrize("dialect", [C, CPP], ids=("c11", "c++11"))
def test_a_wrong_offset_stops_the_build(
    dialect: tuple[str, str, str], buffer: str, offset: int, message: str, tmp_path: Path
) -> None:
    code, said = compiled(header_text(certificate_of(moved(hand_made(), buffer, offset))), tmp_path, dialect)
    assert code != 0
    assert message in brief(said)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("M_BUF_LATENTS_SIZE 64UL", "M_BUF_LATENTS_SIZE 65UL"),
        ("M_BUF_ERROR_OFFSET 224UL", "M_BUF_ERROR_OFFSET 240UL"),
        ("M_ARENA_SRAM_SIZE 372UL", "M_ARENA_SRAM_SIZE 371UL"),
        ("M_BUF_LATENTS_LAST 6UL", "M_BUF_LATENTS_LAST 8UL"),
        ("M_BUF_LATENTS_FIRST 3UL", "M_BUF_LATENTS_FIRST 2UL"),
        ("M_BUF_WEIGHTS_LAST 10UL", "M_BUF_WEIGHTS_LAST 11UL"),
        ("M_BUF_ERROR_LAST 6UL", "M_BUF_ERROR_LAST 4UL"),
        ("M_BUF_GRADIENT_ALIGNMENT 4UL", "M_BUF_GRADIENT_ALIGNMENT 8UL"),
    ],
)
def test_a_number_changed_by_hand_stops_the_build(before: str, after: str, tmp_path: Path) -> None:
    text, long = header_text(certificate_of(hand_made())), before.replace("M_", PREFIX, 1)
    assert text.count(f"#define {long}\n") == 1
    assert compiled(text.replace(long, after.replace("M_", PREFIX, 1)), tmp_path)[0] != 0


def test_numbers_of_a_buffer_by_hand() -> None:
    text = brief(header_text(certificate_of(hand_made())))
    for line in (
        "#define M_BUF_LATENTS_OFFSET 112UL", "#define M_BUF_LATENTS_SIZE 64UL",
        "#define M_BUF_LATENTS_ALIGNMENT 4UL", "#define M_BUF_LATENTS_FIRST 3UL",
        "#define M_BUF_LATENTS_LAST 6UL", "#define M_ARENA_SRAM_SIZE 372UL",
        "#define M_ARENA_SRAM_ALIGNMENT 4UL", "#define M_BUF_CONV1_INFERENCE_OFFSET 160UL",
    ):  # fmt: skip
        assert line in text.splitlines()


def test_every_macro_is_defined_once() -> None:
    defined = re.findall(r"^#define (\w+)[ (]", header_text(certificate_of(hand_made())), re.MULTILINE)
    assert len(set(defined) - {"DSE_ASSERT"}) == 14 * 5 + 2 * 2 + 2  # guard, operations
    assert len(defined) == len(set(defined)) + 1  # the assertion's, for C and for C++


# --- several maps in one program ---


def both_compiled(one: str, other: str, folder: Path) -> tuple[int, str]:
    """Compile a program that includes two maps."""
    (folder / "other.h").write_text(other, encoding="utf-8")
    return compiled('#include "other.h"\n' + one, folder)


def test_maps_of_two_names_meet_in_one_program(tmp_path: Path) -> None:
    one = certificate_of(hand_made())
    for other in (
        replace(one, board="another"), replace(one, network="x"), replace(one, point="most frugal"),
    ):  # fmt: skip
        assert both_compiled(header_text(one), header_text(other), tmp_path) == (0, "")


def test_maps_that_differ_under_one_name_are_refused(tmp_path: Path) -> None:
    one, same = header_text(certificate_of(hand_made())), header_text(certificate_of(hand_made()))
    assert both_compiled(one, same, tmp_path) == (0, "")
    other = header_text(certificate_of(moved(hand_made(), "pool", 116)))
    code, said = both_compiled(one, other, tmp_path)
    assert code != 0
    assert "two memory maps that differ are called DSE_RESNET8_SOME_BOARD" in said


# --- completeness of the assertions ---


def refused(text: str) -> bool:
    """Whether an assertion of the header is false; every one is evaluated, as a compiler does."""
    numbers = dict(re.findall(r"^#define (\w+) (\d+)UL$", text, re.MULTILINE))
    conditions = re.findall(r"^DSE_ASSERT\((.+), \".*\"\);$", text, re.MULTILINE)
    assert len(conditions) == text.count("DSE_ASSERT(") - 2
    return not all(eval(re.sub(r"[A-Z]\w*", lambda name: numbers[name[0]], one)) for one in conditions)


def broken(text: str) -> bool:
    """Whether two buffers collide by the header's numbers, or one is crooked or out of bounds."""
    fields = re.findall(r"^#define M_BUF_(\w+)_(OFFSET|SIZE|FIRST|LAST) (\d+)UL$", text, re.MULTILINE)
    buffers: dict[str, dict[str, int]] = {}
    for name, field, value in fields:
        buffers.setdefault(name, {})[field] = int(value)
    (size,) = re.findall(r"^#define M_ARENA_SRAM_SIZE (\d+)UL$", text, re.MULTILINE)
    rows = [
        (one["OFFSET"], one["OFFSET"] + one["SIZE"], one["FIRST"], one["LAST"]) for one in buffers.values()
    ]
    return any(low % 4 or high > int(size) or first > last for low, high, first, last in rows) or any(
        one[0] < other[1] and other[0] < one[1] and one[2] <= other[3] and other[2] <= one[3]
        for one, other in itertools.combinations(rows, 2)
    )


@pytest.mark.parametrize("seed", range(6))
def test_no_single_number_makes_buffers_collide_unnoticed(seed: int) -> None:
    text = brief(header_text(certificate_of(drawn(seed), capacity={"SRAM": 10**6})))
    assert not refused(text)
    assert not broken(text)
    found = 0
    for line in re.findall(r"^#define M_BUF_\w+_(?:OFFSET|SIZE|FIRST|LAST) \d+UL$", text, re.MULTILINE):
        start, value = line.rsplit(" ", 1)
        for change in (-8, -4, -1, 1, 3, 8, 64):
            other = text.replace(line, f"{start} {max(0, int(value[:-2]) + change)}UL")
            if broken(other):
                found += 1
                assert refused(other), (line, change)
    assert found > 100


# --- the pairs ---


def _together(one: Placed, other: Placed) -> bool:
    return one.buffer.start <= other.buffer.end and other.buffer.start <= one.buffer.end


def _implied(entries: tuple[Placed, ...], pairs: set[tuple[str, str]]) -> bool:
    """Whether every pair that is alive together is joined by a chain of asserted pairs, upwards."""
    above: dict[str, set[str]] = {}
    for low, high in sorted(pairs, key=lambda pair: [p.buffer.id for p in entries].index(pair[0]))[::-1]:
        above.setdefault(low, set()).update({high}, above.get(high, set()))
    return all(
        other.buffer.id in above.get(one.buffer.id, set())
        for one, other in itertools.combinations(entries, 2)
        if _together(one, other)
    )


@pytest.mark.parametrize("seed", range(20))
def test_assertions_imply_that_no_pair_overlaps(seed: int) -> None:
    entries = on_level(drawn(seed), "SRAM")
    pairs = {(low.buffer.id, high.buffer.id) for low, high in neighbours(entries)}
    assert _implied(entries, pairs)
    assert len(pairs) <= 3 * len(entries)
    for pair in pairs:  # and each is needed, or stands for a neighbourhood of its own
        assert any(
            (low.buffer.id, high.buffer.id) == pair and _together(low, high)
            for low, high in itertools.combinations(entries, 2)
        )


@pytest.mark.parametrize("seed", range(12))
def test_moving_a_buffer_onto_a_live_one_breaks_an_assertion(seed: int) -> None:
    memory_map = drawn(seed)
    for victim, other in itertools.permutations(memory_map.entries, 2):
        if _together(victim, other):
            broken = on_level(moved(memory_map, victim.buffer.id, other.offset), "SRAM")
            assert any(low.offset + low.buffer.size_bytes > high.offset for low, high in neighbours(broken))


# --- names ---


def test_identifiers_are_valid_unique_and_the_same_again() -> None:
    names = ["a b", "a/b", "a-b", "", "ünï", "2x", "A_B_2", "for", "日本"]
    found = c_identifiers(names, "P_")
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    assert all(re.fullmatch(r"P_[A-Z0-9_]+", name) for name in found.values())
    assert found == c_identifiers(names, "P_")


def test_comments_cannot_end_early() -> None:
    for text in ("a */ b", "/*/", "*//*", "x\\", "what??/", "line\nbreak", "ünï"):
        plain = comment(text)
        assert plain.isascii()
        assert not any(sign in plain for sign in ("*/", "/*", "\\", "\n", "??"))


def test_hostile_names_do_not_break_the_header(tmp_path: Path) -> None:
    memory_map = hand_made()
    entries = list(memory_map.entries)
    object.__setattr__(entries[4].buffer, "reason", "*/ #error ends here \\\n??/")
    object.__setattr__(entries[4].buffer, "name", "/* nested // \u202e")
    assert compiled(header_text(certificate_of(memory_map)), tmp_path) == (0, "")
