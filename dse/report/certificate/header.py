"""The memory map as a C header: a compiler refuses it if two live buffers overlap.

Every number is a macro, and asserted over these macros is: each offset is aligned, each buffer lies inside
its arena and its lifespan inside the step, buffers that are alive together are apart in memory, and buffers
that share bytes are alive one after the other. No single number can be changed, then, so that two buffers
collide, and the program still be built. It takes two to bring a pair together that is apart in memory and in
time, and this is not asserted.

Nor can a compiler know whether sizes and lifespans are those that the step needs: a lifespan that ends too
early is no contradiction. For that the map is checked and executed before it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from zlib import crc32

from dse.plan.memory_map import Placed
from dse.plan.operations import StepSchedule
from dse.report.certificate.data import Certificate, on_level
from dse.report.certificate.identifiers import c_identifiers, comment, letters

_ASSERT = """\
#ifndef DSE_ASSERT
#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
#define DSE_ASSERT(condition, message) static_assert(condition, message)
#else
#define DSE_ASSERT(condition, message) _Static_assert(condition, message)
#endif
#endif"""

_HOW_APART = """\
/* Buffers that are alive at the same time are apart in memory.
 *
 * Of two such buffers one begins while the other is alive, so it is enough to look at operations that a
 * buffer begins at. There, the live buffers of a level stand in the order of their addresses b1, b2, ...;
 * asserted is that each ends before the next begins. As no size is negative, b1 then ends before b3, b4 ...
 * begin as well: the assertions between neighbours imply those between all pairs. Pairs that are
 * neighbours at several operations are asserted once. */"""

_HOW_IN_TURN = """\
/* Buffers that share bytes are alive one after the other.
 *
 * Of two such buffers one begins at a byte of the other, so it is enough to look at addresses that a buffer
 * begins at. The buffers that cover one stand in the order of their lifespans; asserted is that each ends
 * before the next begins, which implies it for all pairs, as no lifespan ends before it begins. */"""


def header_text(certificate: Certificate) -> str:
    """Return the header: arenas, buffers by level, and the assertions (C11 and C++11).

    Names begin with ``prefix_of``, so that a program may hold several maps. Two that differ and still bear
    one name stop the build.
    """
    prefix, body = prefix_of(certificate), "\n\n".join(_parts(certificate))
    guard, number = f"{prefix}MEMORY_MAP_H", f"0x{crc32(body.encode()):08x}UL"
    return (
        f"{_title(certificate)}\n\n"
        f"#ifdef {guard}\n#if {guard} != {number}\n"
        f'#error "two memory maps that differ are called {prefix.rstrip("_")}"\n#endif\n'
        f"#else\n#define {guard} {number} /* check sum of this map as it was written */\n\n"
        f"{_ASSERT}\n\n{body}\n\n#endif /* {guard} */\n"
    )


def prefix_of(certificate: Certificate) -> str:
    """Return what the names of a map begin with: network, board, and what a run calls the plan."""
    words = (certificate.network, certificate.board, certificate.point)
    return "_".join(["DSE", *(letters(word) for word in words if word), ""])


def _parts(certificate: Certificate) -> Iterator[str]:
    memory_map, prefix = certificate.map, prefix_of(certificate)
    levels = [level for level in memory_map.arena_bytes if on_level(memory_map, level)]
    arenas = c_identifiers(levels, f"{prefix}ARENA_")
    buffers = c_identifiers((placed.buffer.id for placed in memory_map.entries), f"{prefix}BUF_")
    operations = f"{prefix}OPERATIONS"
    yield f"#define {operations} {len(memory_map.schedule.operations)}UL"
    for level in levels:
        entries = on_level(memory_map, level)
        yield _arena(level, arenas[level], entries, memory_map.arena_bytes[level])
        yield from (_buffer(placed, buffers[placed.buffer.id], memory_map.schedule) for placed in entries)
        yield "\n".join(_own_assertions(entries, arenas[level], operations, buffers))
    by_level = [on_level(memory_map, level) for level in levels]
    for how, assertions in ((_HOW_APART, _apart_assertions), (_HOW_IN_TURN, _in_turn_assertions)):
        yield how
        yield from filter(None, ("\n".join(assertions(entries, buffers)) for entries in by_level))


def _title(certificate: Certificate) -> str:
    words = [
        f"Memory map of {certificate.network} on {certificate.board}.",
        f"Plan: {', '.join(certificate.plan_words)}.",
        "Offsets are bytes from the start of a level's arena, which has to be aligned as its macro says;",
        "FIRST and LAST are the operations between which a buffer is alive, both inclusive.",
        "Asserted is that no buffers collide, and nothing about what the step needs: whether sizes and",
        "lifespans suffice, the certificate says that came with this file.",
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


def _own_assertions(
    entries: Sequence[Placed], arena: str, operations: str, buffers: dict[str, str]
) -> Iterator[str]:
    """Each buffer is aligned, lies inside the arena, and lives within the operations."""
    for placed in entries:
        name = buffers[placed.buffer.id]
        yield f'DSE_ASSERT({name}_OFFSET % {name}_ALIGNMENT == 0, "{name} is not aligned");'
        yield f'DSE_ASSERT({arena}_ALIGNMENT % {name}_ALIGNMENT == 0, "{arena} is aligned too little");'
        yield f'DSE_ASSERT({name}_OFFSET + {name}_SIZE <= {arena}_SIZE, "{name} ends behind its arena");'
        yield f'DSE_ASSERT({name}_FIRST <= {name}_LAST, "{name} ends before it begins");'
        yield f'DSE_ASSERT({name}_LAST < {operations}, "{name} outlives the last operation");'


def _apart_assertions(entries: Sequence[Placed], buffers: dict[str, str]) -> Iterator[str]:
    for below, above in neighbours(entries):
        first, second = buffers[below.buffer.id], buffers[above.buffer.id]
        yield f'DSE_ASSERT({first}_OFFSET + {first}_SIZE <= {second}_OFFSET, "{first} overlaps {second}");'


def _in_turn_assertions(entries: Sequence[Placed], buffers: dict[str, str]) -> Iterator[str]:
    for before, behind in successors(entries):
        first, second = buffers[before.buffer.id], buffers[behind.buffer.id]
        yield f'DSE_ASSERT({first}_LAST < {second}_FIRST, "{first} lives into {second}");'


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


def successors(entries: Sequence[Placed]) -> tuple[tuple[Placed, Placed], ...]:
    """Return the pairs of which one is the next to hold a byte that the other held, each once.

    ``entries`` are those of one level. Two buffers that share bytes are joined by a chain of such pairs, all
    of which hold one and the same byte.
    """
    order = sorted(range(len(entries)), key=lambda index: (entries[index].buffer.start, index))
    pairs: dict[tuple[int, int], None] = {}
    for address in sorted({placed.offset for placed in entries}):
        holding = [
            index
            for index in order
            if entries[index].offset <= address < entries[index].offset + entries[index].buffer.size_bytes
        ]
        pairs |= dict.fromkeys(pairwise(holding))
    return tuple((entries[before], entries[behind]) for before, behind in pairs)
