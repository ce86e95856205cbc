"""The files of a benchmark folder as text: the cases in C, the Makefile, the table of rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from typing import Final

from dse.calibrate.bench.cases import COLUMNS, Case

CORES: Final = {
    "cortex-m0": "-mcpu=cortex-m0 -mthumb -mfloat-abi=soft",
    "cortex-m0plus": "-mcpu=cortex-m0plus -mthumb -mfloat-abi=soft",
    "cortex-m3": "-mcpu=cortex-m3 -mthumb -mfloat-abi=soft",
    "cortex-m4": "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16",
    "cortex-m7": "-mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-sp-d16",
    "cortex-m33": "-mcpu=cortex-m33 -mthumb -mfloat-abi=hard -mfpu=fpv5-sp-d16",
    "cortex-m55": "-mcpu=cortex-m55 -mthumb -mfloat-abi=hard",
}
"""Core, as a profile names it -> flags of the compiler."""

SHARED: Final = (
    "dse_bench.h", "dse_bench.c", "dse_timer.h", "dse_conv.h", "dse_elements.h", "dse_port.c",
    "dse_put_semihosting.c", "dse_put_itm.c",
)  # fmt: skip
"""Files that are the same in every folder."""

CASES: Final = "bench_cases.c"
TEMPLATE: Final = "template.csv"
_SAID: Final = 200
"""Bytes that a case prints beside its row and its name: its comments, its cycles, a library's long name."""
_KILOBYTE: Final = 1024


def shared_text(name: str) -> str:
    """Return the text of a file that every folder has."""
    return (files("dse.calibrate.bench") / "c" / name).read_text(encoding="utf-8")


def c_string(text: str) -> str:
    r"""Return ``text`` as a string of C99: bytes that are not plain ASCII in octal.

    >>> c_string('3" µ?')
    '"3\\" \\302\\265\\?"'
    """
    plain = {ord('"'): '\\"', ord("\\"): "\\\\", ord("?"): "\\?"}
    return '"' + "".join(
        plain.get(byte, chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in text.encode()
    ) + '"'  # fmt: skip


def comment(text: str) -> str:
    """Return ``text`` fit for a comment of C: on one line, and not ending it."""
    return " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *").rstrip("\\")


def cells(values: Iterable[str]) -> str:
    """Return cells of one line of CSV, without a line end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(list(values))
    return text.getvalue()


def row_pieces(case: Case) -> tuple[str, str, str]:
    """Return the text in front of the library, between it and the cycles, and behind them."""
    values = [case.row[column] for column in COLUMNS]
    library, cycles = COLUMNS.index("library"), COLUMNS.index("cycles")
    before, between, after = values[:library], values[library + 1 : cycles], values[cycles + 1 :]
    return cells(before) + ",", "," + cells(between) + ",", "," + cells(after)


def cases_text(cases: Sequence[Case], title: str) -> str:
    """Return ``bench_cases.c``."""
    arena = max([case.arena_bytes for case in cases] + [8])
    head = [
        f"/* {comment(title)}.",
        "   The kernels, at the geometry of the plan's own layers; written by `dse hw bench`. */",
        "",
        '#include "dse_bench.h"',
        "",
        f"#define DSE_ARENA_BYTES {arena}u",
        "",
        "int8_t dse_arena[DSE_ARENA_BYTES] __attribute__((aligned(8)));",
        "const uint32_t dse_arena_bytes = DSE_ARENA_BYTES;",
        "",
        f"#define DSE_LOG_BYTES {log_bytes(cases, title)}u",
        "",
        "char dse_log[DSE_LOG_BYTES];",
        "const uint32_t dse_log_bytes = DSE_LOG_BYTES;",
        "",
        f"const char dse_title[] = {c_string(title)};",
        f"const char dse_header[] = {c_string(cells(COLUMNS))};",
    ]
    loops = [line for case in cases if case.template for line in _loops(case)]
    table = ["", "const struct dse_case dse_cases[] = {", *map(_entry, cases), "};", ""]
    count = "const uint32_t dse_case_count = sizeof(dse_cases) / sizeof(dse_cases[0]);"
    return "\n".join([*head, *loops, *table, count]) + "\n"


def _loops(case: Case) -> Iterator[str]:
    yield ""
    for path in case.paths:
        yield f"/* {comment(path)} */"
    yield f"/* {comment(case.row['note'])} */"
    if case.layout:
        yield f"/* dse_arena: {case.layout} */"
    yield f"#define DSE_CASE {case.name}"
    for name, value in case.defines.items():
        yield f"#define {name} {value}"
    yield f'#include "{case.template}"'


def _entry(case: Case) -> str:
    kind = {"timed": "DSE_TIMED", "power": "DSE_POWER", "sleep": "DSE_SLEEP"}[case.kind]
    if case.kind == "sleep":
        return f'    {{"{case.name}", {kind}, 0u, 0, 0, 0, 0u,\n     {c_string(case.state)}, "", ""}},'
    before, between, after = map(c_string, row_pieces(case))
    parts = f"dse_fill_{case.name}, dse_kernel_{case.name},"
    output = f"dse_arena + dse_out_{case.name}, (uint32_t)dse_size_{case.name},"
    rows = f"{before}, {between},\n     {after}"
    return f'    {{"{case.name}", {kind}, {case.calls}u,\n     {parts}\n     {output}\n     {rows}}},'


def log_bytes(cases: Sequence[Case], title: str) -> int:
    """Return the bytes of everything that the program prints, at most."""
    names = sum(len(case.name) for case in cases)
    most = len(template_csv(cases, title).encode()) + names + _SAID * (len(cases) + 2)
    return -(-most // _KILOBYTE) * _KILOBYTE


def template_csv(cases: Sequence[Case], title: str) -> str:
    """Return the table that the program prints, its cycles and powers still empty."""
    lines = [f"# {' '.join(title.split())}", cells(COLUMNS)]
    for case in cases:
        if case.kind == "sleep":
            lines.append(f"# sleep {case.state}")
        else:
            lines.append(cells(case.row[column] for column in COLUMNS))
    return "\n".join(lines) + "\n"


def makefile(core: str, clock_hz: float) -> str:
    """Return the Makefile: an archive to link, and a program where start-up code and a script are given."""
    return _MAKEFILE.replace("@CORE@", CORES[core]).replace("@CLOCK@", f"{clock_hz:.0f}u")


_MAKEFILE: Final = """\
# make                                  libdsebench.a; call dse_bench_main() from your own project
# make bench.elf STARTUP=startup.s LDSCRIPT=chip.ld    a program, with your vendor's start-up code and script
# PUT=log (dse_log in RAM), semihosting, itm, or own (a dse_put() in port/)
# LIBRARY=name                          after the kernels in port/ call that library
# CLOCK=hz MARKER_MS=0 (no power analyser) RUNS=n

CC = arm-none-eabi-gcc
AR = arm-none-eabi-ar
CORE = @CORE@
CLOCK = @CLOCK@
PUT = log
MARKER_MS = 2000u
RUNS = 11
LIBRARY =
STARTUP =
LDSCRIPT =

CFLAGS = $(CORE) -std=c99 -O2 -ffreestanding -fno-strict-aliasing -fno-tree-loop-distribute-patterns \\
  -ffp-contract=fast -fno-math-errno -ffunction-sections -fdata-sections -Wall -Wextra -I. \\
  -DDSE_CLOCK_HZ=$(CLOCK) -DDSE_MARKER_MS=$(MARKER_MS) -DDSE_RUNS=$(RUNS) \\
  $(if $(LIBRARY),-DDSE_LIBRARY='"$(LIBRARY)"')
SOURCES = bench_cases.c dse_bench.c dse_port.c $(wildcard port/*.c) \\
  $(if $(filter semihosting itm,$(PUT)),dse_put_$(PUT).c)
OBJECTS = $(SOURCES:.c=.o)

libdsebench.a: $(OBJECTS)
\trm -f $@
\t$(AR) rcs $@ $(OBJECTS)

bench.elf: $(OBJECTS) $(STARTUP) $(LDSCRIPT)
\t$(CC) $(CFLAGS) -nostartfiles -nostdlib -Wl,--gc-sections -T $(LDSCRIPT) $(STARTUP) $(OBJECTS) -lgcc -o $@

$(OBJECTS): $(wildcard *.h) Makefile

clean:
\trm -f $(OBJECTS) libdsebench.a bench.elf

.PHONY: clean
"""
