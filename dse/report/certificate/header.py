"""The memory map as a C header that proves itself: a compiler refuses it if two live buffers overlap.

Every number is a macro, and every property of the map a static assertion over these macros, so that a
number that is changed by hand, or a merge gone wrong, stops the build.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from dse.plan.memory_map import Placed
from dse.plan.operations import StepSchedule
from dse.report.certificate.data import Certificate, on_level
from dse.report.certificate.identifiers import c_identifiers, comment

GUARD = "DSE_MEMORY_MAP_H"

_PREAMBLE = """\
#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
#define DSE_ASSERT(condition, message) static_assert(condition, message)
#else
#define DSE_ASSERT(condition, message) _Static_assert(condition, message)
#endif"""

_HOW_DISJOINT = """\
/* No two buffers that are alive at the same time overlap.
 *
 * Of two such buffers one begins while the other is alive, so it is enough to look at operations that a
 * buffer begins at. There, the live buffers of a level stand in the order of their addresses b1, b2, ...;
 * asserted is that each ends before the next begins. As no size is negative, b1 then ends before b3, b4 ...
 * begin as well: the assertions between neighbours imply those between all pairs. Pairs that are
 * neighbours at several operations are asserted once. */"""


def header_text(certificate: Certificate) -> str:
    """Return the header: arenas, buffers by level, and the assertions (C11 and C++11)."""
    memory_map = certificate.map
    levels = [level for level in memory_map.arena_bytes if on_level(memory_map, level)]
    arenas = c_identifiers(levels, "DSE_ARENA_")
    buffers = c_identifiers((placed.buffer.id for placed in memory_map.entries), "DSE_BUF_")
    parts = [_title(certificate), f"#ifndef {GUARD}\n#define {GUARD}", _PREAMBLE]
    for level in levels:
        entries = on_level(memory_map, level)
        size = memory_map.arena_bytes[level]
        parts += [
            _arena(level, arenas[level], entries, size),
            *(_buffer(placed, buffers[placed.buffer.id], memory_map.schedule) for placed in entries),
            "\n".join(_own_assertions(entries, arenas[level], buffers)),
        ]
    parts.append(_HOW_DISJOINT)
    for level in levels:
        parts.append("\n".join(_disjoint_assertions(on_level(memory_map, level), buffers)))
    return "\n\n".join([*(part for part in parts if part), f"#endif /* {GUARD} */"]) + "\n"


def _title(certificate: Certificate) -> str:
    words = [
        f"Memory map of {certificate.network} on {certificate.board}.",
        f"Plan: {', '.join(certificate.plan_words)}.",
        "Offsets are bytes from the start of a level's arena, which has to be aligned as its macro says;",
        "FIRST and LAST are the operations between which a buffer is alive, both inclusive.",
        "Operations are those of the written-out training step, then those of an inference.",
    ]
    return "\n".join(["/* " + comment(words[0]), *(f" * {comment(line)}" for line in words[1:]), " */"])


def _arena(level: str, name: str, entries: Sequence[Placed], size: int) -> str:
    alignment = max(placed.buffer.alignment for placed in entries)
    return (
        f"/* ---- {comment(level)}: {len(entries)} buffers ---- */\n"
        f"#define {name}_SIZE {size}UL\n"
        f"#define {name}_ALIGNMENT {alignment}UL"
    )


def _buffer(placed: Placed, name: str, schedule: StepSchedule) -> str:
    buffer, operations = placed.buffer, schedule.operations
    first, last = operations[buffer.start].name, operations[buffer.end].name
    numbers = {
        "OFFSET": placed.offset, "SIZE": buffer.size_bytes, "ALIGNMENT": buffer.alignment,
        "FIRST": buffer.start, "LAST": buffer.end,
    }  # fmt: skip
    about = comment(f"{buffer.name}: {buffer.role.value}, {buffer.reason}; {first} .. {last}")
    return "\n".join(
        [f"/* {about} */", *(f"#define {name}_{key} {value}UL" for key, value in numbers.items())]
    )


def _own_assertions(entries: Sequence[Placed], arena: str, buffers: dict[str, str]) -> Iterator[str]:
    """Each buffer is aligned, and lies inside the arena."""
    for placed in entries:
        name = buffers[placed.buffer.id]
        yield f'DSE_ASSERT({name}_OFFSET % {name}_ALIGNMENT == 0, "{name} is not aligned");'
        yield f'DSE_ASSERT({arena}_ALIGNMENT % {name}_ALIGNMENT == 0, "{arena} is aligned too little");'
        yield f'DSE_ASSERT({name}_OFFSET + {name}_SIZE <= {arena}_SIZE, "{name} ends behind its arena");'


def _disjoint_assertions(entries: Sequence[Placed], buffers: dict[str, str]) -> Iterator[str]:
    for below, above in neighbours(entries):
        first, second = buffers[below.buffer.id], buffers[above.buffer.id]
        yield f'DSE_ASSERT({first}_OFFSET + {first}_SIZE <= {second}_OFFSET, "{first} overlaps {second}");'


def neighbours(entries: Sequence[Placed]) -> tuple[tuple[Placed, Placed], ...]:
    """Return the pairs that are next to each other in memory while both are alive, each once.

    ``entries`` are those of one level in the order of their addresses. Two buffers that are alive together
    are joined by a chain of such pairs, all of them alive at the same operation.
    """
    pairs: dict[tuple[int, int], None] = {}
    for moment in sorted({placed.buffer.start for placed in entries}):
        alive = [
            index
            for index, placed in enumerate(entries)
            if placed.buffer.start <= moment <= placed.buffer.end
        ]
        pairs |= dict.fromkeys(pairwise(alive))
    return tuple((entries[below], entries[above]) for below, above in sorted(pairs))
