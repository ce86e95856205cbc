"""The C header: a compiler takes the map as it is and refuses it with any number that breaks it."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
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
DIALECTS = (C, CPP, ("gcc", "-std=c17", "c"), ("g++", "-std=c++17", "c++"))


def compiled(text: str, folder: Path, dialect: tuple[str, str, str] = C) -> tuple[int, str]:
    """Compile a program that includes the header twice, and uses it."""
    compiler, standard, language = dialect
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} on this machine")
    (folder / "memory_map.h").write_text(text, encoding="utf-8")
    program = '#include "memory_map.h"\n#include "memory_map.h"\nunsigned char arena[DSE_ARENA_SRAM_SIZE];\n'
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
        ("gradient", 276, "DSE_BUF_GRADIENT ends behind its arena"),
        ("error", 212, "DSE_BUF_LOGITS overlaps DSE_BUF_ERROR"),
        ("weights", 16, "DSE_BUF_WEIGHTS overlaps DSE_BUF_FRAME"),
        ("replays", 428, "DSE_BUF_FROZEN overlaps DSE_BUF_REPLAYS"),
    ],
)
@pytest.mark.parametrize("dialect", [C, CPP], ids=("c11", "c++11"))
def test_a_wrong_offset_stops_the_build(
    dialect: tuple[str, str, str], buffer: str, offset: int, message: str, tmp_path: Path
) -> None:
    code, said = compiled(header_text(certificate_of(moved(hand_made(), buffer, offset))), tmp_path, dialect)
    assert code != 0
    assert message in said


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("DSE_BUF_LATENTS_SIZE 64UL", "DSE_BUF_LATENTS_SIZE 65UL"),
        ("DSE_BUF_ERROR_OFFSET 224UL", "DSE_BUF_ERROR_OFFSET 240UL"),
        ("DSE_ARENA_SRAM_SIZE 372UL", "DSE_ARENA_SRAM_SIZE 371UL"),
        ("DSE_BUF_GRADIENT_ALIGNMENT 4UL", "DSE_BUF_GRADIENT_ALIGNMENT 8UL"),
    ],
)
def test_a_number_changed_by_hand_stops_the_build(before: str, after: str, tmp_path: Path) -> None:
    text = header_text(certificate_of(hand_made()))
    assert text.count(before) == 1
    assert compiled(text.replace(before, after), tmp_path)[0] != 0


def test_numbers_of_a_buffer_by_hand() -> None:
    text = header_text(certificate_of(hand_made()))
    for line in (
        "#define DSE_BUF_LATENTS_OFFSET 112UL", "#define DSE_BUF_LATENTS_SIZE 64UL",
        "#define DSE_BUF_LATENTS_ALIGNMENT 4UL", "#define DSE_BUF_LATENTS_FIRST 3UL",
        "#define DSE_BUF_LATENTS_LAST 6UL", "#define DSE_ARENA_SRAM_SIZE 372UL",
        "#define DSE_ARENA_SRAM_ALIGNMENT 4UL", "#define DSE_BUF_CONV1_INFERENCE_OFFSET 160UL",
    ):  # fmt: skip
        assert line in text.splitlines()


def test_every_macro_is_defined_once() -> None:
    defined = re.findall(r"^#define (\w+)[ (]", header_text(certificate_of(hand_made())), re.MULTILINE)
    assert len(set(defined) - {"DSE_ASSERT"}) == 14 * 5 + 2 * 2
    assert len(defined) == len(set(defined)) + 1  # the assertion's, for C and for C++


# --- completeness of the assertions ---


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
