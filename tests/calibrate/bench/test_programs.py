"""Whole folders: compiled for every core, run on this computer and in an emulator, and what they print."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from dse.api.bench import bench, write_bench
from dse.calibrate import parse_measurements
from dse.calibrate.bench import Benchmarks
from dse.calibrate.bench.cases import COLUMNS, Case
from dse.calibrate.bench.source import CASES, CORES, SHARED, c_string, cells, comment
from dse.calibrate.resolve import Resolver
from dse.hardware import load_board
from dse.vocabulary import OPERATORS
from tests.calibrate.bench.networks import FREESTANDING, every_case, run, tool, write_sources

DATA = Path(__file__).parent / "data"
ARM = "arm-none-eabi-gcc"
CLOCK = "-DDSE_CLOCK_HZ=25000000u"


def needed(name: str) -> str:
    found = tool(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    folder = tmp_path_factory.mktemp("everything")
    cases = every_case(folder)
    return write_sources(cases, folder / "c"), cases


@pytest.fixture(scope="module")
def found() -> Benchmarks:
    return bench("nrf52840", "ds-cnn", cut=7, top=4)


@pytest.fixture(scope="module")
def folder(found: Benchmarks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bench") / "out"
    write_bench(found, place)
    return place


def rows(text: str) -> list[list[str]]:
    return list(
        csv.reader(io.StringIO("".join(f"{line}\n" for line in text.splitlines() if line[:1] != "#")))
    )


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33"])
def test_every_kernel_compiles_for_every_core(
    everything: tuple[Path, list[Case]], core: str, tmp_path: Path
) -> None:
    sources, cases = everything
    objects = tmp_path / "all.o"
    found = run(needed(ARM), *CORES[core].split(), *FREESTANDING, "-ffp-contract=fast", CLOCK, f"-I{sources}",
                "-c", sources / CASES, "-o", objects)  # fmt: skip
    assert found.returncode == 0, found.stderr.decode()
    listed = run(needed("arm-none-eabi-nm"), "--print-size", objects).stdout.decode()
    sizes = {
        name: int(size, 16) for size, name in re.findall(r"^\S+ (\S+) W (dse_kernel_\w+)$", listed, re.M)
    }
    assert sizes.keys() == {f"dse_kernel_{case.name}" for case in cases}
    assert min(sizes.values()) > 8
    # Nothing of a C library is needed: only what the compiler's own library has for floats and 64 bits.
    assert set(re.findall(r"^ +U (\S+)$", listed, re.M)) <= {"dse_seed", "dse_ran_plain"} | set(
        re.findall(r" U (__aeabi_\w+|__\w+[sdi][ifd]\d?)$", listed, re.M)
    )


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33"])
def test_the_frame_compiles_for_every_core(
    everything: tuple[Path, list[Case]], core: str, tmp_path: Path
) -> None:
    sources, _ = everything
    units = ["dse_bench.c", "dse_port.c", "dse_put_semihosting.c"]
    units += [] if core == "cortex-m0plus" else ["dse_put_itm.c"]
    for unit in units:
        found = run(needed(ARM), *CORES[core].split(), *FREESTANDING, CLOCK, f"-I{sources}", "-c",
                    sources / unit, "-o", tmp_path / "unit.o")  # fmt: skip
        assert found.returncode == 0, found.stderr.decode()
    counter = run(needed("arm-none-eabi-objdump"), "-d", tmp_path / "unit.o")
    assert counter.returncode == 0


def test_the_counter_is_dwt_or_systick(everything: tuple[Path, list[Case]], tmp_path: Path) -> None:
    sources, _ = everything
    for core, address, handler in (("cortex-m0plus", "e000e0", True), ("cortex-m7", "e0001", False)):
        found = run(needed(ARM), *CORES[core].split(), *FREESTANDING, CLOCK, f"-I{sources}", "-S",
                    sources / "dse_bench.c", "-o", tmp_path / "frame.s")  # fmt: skip
        assert found.returncode == 0, found.stderr.decode()
        text = (tmp_path / "frame.s").read_text(encoding="utf-8")
        numbers = {f"{int(word) & 0xFFFFFFFF:x}" for word in re.findall(r"-?\b\d{5,}\b", text)}
        assert any(number.startswith(address) for number in numbers)
        assert ("SysTick_Handler" in text) == handler


def test_an_unknown_core_is_an_error_that_says_what_to_write(
    everything: tuple[Path, list[Case]], tmp_path: Path
) -> None:
    sources, _ = everything
    unit = ("-c", sources / "dse_bench.c", "-o", tmp_path / "frame.o")
    found = run(needed("cc"), *FREESTANDING, CLOCK, f"-I{sources}", *unit)
    assert found.returncode != 0
    assert "-DDSE_OWN_CYCLES" in found.stderr.decode()
    found = run(needed("cc"), *FREESTANDING, f"-I{sources}", "-DDSE_OWN_CYCLES", *unit)
    assert "DSE_CLOCK_HZ" in found.stderr.decode()


HOST = """
#include <stdio.h>
#include "dse_bench.h"
static uint32_t now, step = STEP;
void dse_timer_start(void) {}
uint32_t dse_cycles(void) { return now += step; }
void dse_put(const char *text) { fputs(text, stdout); }
void dse_marker(int level) { printf("# marker %d\\n", level); }
int dse_sleep(const char *state, uint32_t milliseconds) { return state[0] != 0 && milliseconds > 0; }
EXTRA
int main(void) { dse_bench_main(); return 0; }
"""


def on_this_computer(folder: Path, place: Path, *flags: str, step: int = 1000, extra: str = "") -> str:
    """Return what the program prints here, with a counter that goes up by ``step`` when it is read."""
    (place / "host.c").write_text(HOST.replace("STEP", str(step)).replace("EXTRA", extra), encoding="utf-8")
    sources = [folder / CASES, folder / "dse_bench.c", folder / "dse_port.c", place / "host.c"]
    found = run(needed("cc"), *FREESTANDING, CLOCK, "-DDSE_OWN_CYCLES", f"-I{folder}", *flags, *sources,
                "-o", place / "host")  # fmt: skip
    assert found.returncode == 0, found.stderr.decode()
    return run(place / "host").stdout.decode()


def test_the_program_prints_the_rows_of_the_template(folder: Path, tmp_path: Path) -> None:
    printed = on_this_computer(folder, tmp_path, "-DDSE_MARKER_MS=1u", "-DDSE_PAUSE_MS=1u")
    wanted = rows((folder / "template.csv").read_text(encoding="utf-8"))
    found = rows(printed)
    cycles = COLUMNS.index("cycles")
    assert found[0] == wanted[0] == list(COLUMNS)
    assert [[*row[:cycles], "", *row[cycles + 1 :]] for row in found[1:]] == wanted[1:]
    timed = [row for row in found[1:] if row[COLUMNS.index("library")]]
    assert timed
    assert {row[cycles] for row in timed} == {"1000"}  # each reading is 1000 later than the one before
    assert all(row[COLUMNS.index("library")] == "plain-c" for row in timed)
    powers = [row for row in found[1:] if not row[COLUMNS.index("library")]]
    assert {row[cycles] for row in powers} <= {""}
    # One stretch under the marker for each row, and for each state of sleep.
    sleeps = printed.count("\n# sleep ")
    assert printed.count("# marker 1") == len(found) - 1 + sleeps
    assert printed.count("# marker 0") == printed.count("# marker 1") + 1
    assert printed.endswith("# end\n")


def test_without_a_power_analyser_rows_of_power_are_left_out(folder: Path, tmp_path: Path) -> None:
    printed = on_this_computer(folder, tmp_path, "-DDSE_MARKER_MS=0u")
    assert printed.count("# marker") == 1
    assert all(row[COLUMNS.index("library")] for row in rows(printed)[1:])
    assert "# sleep" not in printed
    path = tmp_path / "measurements.csv"
    path.write_text(printed.replace("plain-c", ""), encoding="utf-8")  # a user's own decision
    measured, problems = parse_measurements(path)
    assert not problems
    found, wrong, _ = Resolver(load_board("nrf52840")).resolve(measured)
    assert not wrong
    assert len(found) == len(measured) > 0


def test_a_plain_loop_is_never_called_a_library(folder: Path, tmp_path: Path) -> None:
    names = re.findall(r"^#define DSE_CASE (\w+)$", (folder / CASES).read_text(encoding="utf-8"), re.M)
    vendor = f"void dse_kernel_{names[0]}(void);\nvoid dse_kernel_{names[0]}(void) {{ dse_arena[0] = 1; }}"
    named = on_this_computer(folder, tmp_path, "-DDSE_MARKER_MS=0u", '-DDSE_LIBRARY="cmsis-nn"', extra=vendor)
    libraries = [row[COLUMNS.index("library")] for row in rows(named)[1:]]
    assert libraries[0] == "cmsis-nn"
    assert set(libraries[1:]) == {"plain-c"}
    unnamed = on_this_computer(folder, tmp_path, "-DDSE_MARKER_MS=0u", extra=vendor)
    assert rows(unnamed)[1][COLUMNS.index("library")] == "unnamed"
    assert "compile with -DDSE_LIBRARY" in unnamed
    assert "DSE_LIBRARY='\"$(LIBRARY)\"'" in (folder / "Makefile").read_text(encoding="utf-8")


def test_a_counter_that_stands_still_measures_nothing(folder: Path, tmp_path: Path) -> None:
    printed = on_this_computer(folder, tmp_path, step=0)
    assert "# error: the cycle counter does not count" in printed
    assert len(rows(printed)) == 1


def test_it_runs_in_an_emulator_and_its_rows_are_read(folder: Path, tmp_path: Path) -> None:
    # The emulator has no DWT cycle counter: SysTick counts its virtual time, so only the form is looked at.
    emulator, program = needed("qemu-system-arm"), tmp_path / "bench.elf"
    sources = [folder / name for name in (CASES, "dse_bench.c", "dse_port.c", "dse_put_semihosting.c")]
    short = ("-DDSE_SYSTICK", "-DDSE_MARKER_MS=1u", "-DDSE_PAUSE_MS=1u", "-DDSE_RUNS=3")
    flags = (*CORES["cortex-m4"].split(), *FREESTANDING, "-ffp-contract=fast", CLOCK, *short, f"-I{folder}")
    linked = ("-nostdlib", "-T", DATA / "mps2.ld", DATA / "startup.c", *sources, "-lgcc", "-o", program)
    found = run(needed(ARM), *flags, *linked)
    assert found.returncode == 0, found.stderr.decode()
    quiet = ("-display", "none", "-monitor", "none", "-serial", "null", "-icount", "shift=2")
    speaks = ("-chardev", "stdio,id=out", "-semihosting-config", "enable=on,target=native,chardev=out")
    ran = run(emulator, "-M", "mps2-an386", *quiet, *speaks, "-kernel", program, seconds=60)
    printed = ran.stdout.decode()
    assert ran.returncode == 0, printed + ran.stderr.decode()
    wanted = rows((folder / "template.csv").read_text(encoding="utf-8"))
    cycles = COLUMNS.index("cycles")
    assert [[*row[:cycles], "", *row[cycles + 1 :]] for row in rows(printed)[1:]] == wanted[1:]
    text = "\n".join(
        line for line in printed.splitlines() if ",plain-c," in line or line.startswith("operator")
    )
    path = tmp_path / "measurements.csv"
    path.write_text(text, encoding="utf-8")
    measured, problems = parse_measurements(path)
    assert not problems
    assert len(measured) == text.count("plain-c")
    assert all(row.cycles and row.library == "plain-c" for row in measured)
    # Sums of bytes in the emulator are those on this computer: the kernels did the same work.
    sums = rf"^# ((?:{'|'.join(OPERATORS)})_\w+): .* check sum (\w+)$"
    here = on_this_computer(folder, tmp_path, "-DDSE_MARKER_MS=0u")
    assert re.findall(sums, printed, re.M)
    assert re.findall(sums, here, re.M) == re.findall(sums, printed, re.M)


def test_make_builds_the_archive_with_files_of_the_user(folder: Path, tmp_path: Path) -> None:
    needed(ARM)
    (folder / "port").mkdir()
    (folder / "port" / "mine.c").write_text(
        '#include "dse_bench.h"\nvoid dse_put(const char *text) { (void)text; }\n', encoding="utf-8"
    )
    try:
        found = run(needed("make"), "-C", folder, "LIBRARY=cmsis-nn", "PUT=own")
        assert found.returncode == 0, found.stderr.decode()
        assert b"warning" not in found.stderr
        listed = run(needed("arm-none-eabi-ar"), "t", folder / "libdsebench.a").stdout.decode().split()
        assert listed == ["bench_cases.o", "dse_bench.o", "dse_port.o", "mine.o"]
    finally:
        run(needed("make"), "-C", folder, "clean")


def test_equal_inputs_give_equal_files_and_files_of_the_user_stay(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "again"
    place.mkdir()
    (place / "measurements.csv").write_text("mine", encoding="utf-8")
    names = write_bench(bench("nrf52840", "ds-cnn", cut=7, top=4), place)
    assert set(names) == {"Makefile", "README.md", "template.csv", CASES, *SHARED}
    for name in names:
        assert (place / name).read_bytes() == (folder / name).read_bytes()
    assert (place / "measurements.csv").read_text(encoding="utf-8") == "mine"


def test_the_page_lists_what_is_measured_and_what_is_left(found: Benchmarks, folder: Path) -> None:
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\d\. \S+.*: moves .* measured by ", page, re.M)) == 4
    for each in found.by_hand:
        assert f"- {each.influence.path}: moves" in page
    assert all(case.name in page for case in found.cases)
    assert "@" not in page
    assert max(map(len, page.splitlines())) < 400


@pytest.mark.parametrize("text", ['say "so"', "back\\slash", "what??/", "µ and 漢", "100 % *7"])
def test_any_name_is_a_string_of_c(text: str, tmp_path: Path) -> None:
    source = tmp_path / "text.c"
    said = comment(text + " */ int broken; /*")
    body = f"int main(void) {{ fputs({c_string(text)}, stdout); }}\n"
    source.write_text(f"/* {said} */\n#include <stdio.h>\n{body}", encoding="utf-8")
    built = run(needed("cc"), "-std=c99", "-Wall", "-Wextra", "-Werror", source, "-o", tmp_path / "text")
    assert built.returncode == 0, built.stderr.decode()
    assert run(tmp_path / "text").stdout.decode() == text


def test_cells_are_quoted_where_they_must_be() -> None:
    assert cells(["a", "b, c", 'd "e"']) == 'a,"b, c","d ""e"""'


LOGGED = """
#include <stdio.h>
#include "dse_bench.h"
static uint32_t now;
void dse_timer_start(void) {}
uint32_t dse_cycles(void) { return now += 1000000000u; }
int main(void) { dse_bench_main(); fputs(dse_log, stdout); return 0; }
"""


def logged(sources: Path, place: Path) -> str:
    """Return what stands in ``dse_log`` at the end, with figures as long as they get."""
    (place / "logged.c").write_text(LOGGED, encoding="utf-8")
    files = (sources / CASES, sources / "dse_bench.c", sources / "dse_port.c", place / "logged.c")
    flags = (CLOCK, "-DDSE_OWN_CYCLES", "-DDSE_MARKER_MS=1u", "-DDSE_PAUSE_MS=1u", f"-I{sources}")
    found = run(needed("cc"), *FREESTANDING, *flags, *files, "-o", place / "logged")
    assert found.returncode == 0, found.stderr.decode()
    return run(place / "logged").stdout.decode()


def test_the_log_holds_all_that_is_printed(everything: tuple[Path, list[Case]], tmp_path: Path) -> None:
    sources, cases = everything
    printed = logged(sources, tmp_path)
    assert len(printed) > 4096
    assert printed.endswith("# end\n")
    assert len(rows(printed)) == 1 + len(cases)


def test_a_log_that_is_too_short_says_so_and_cuts_no_row(folder: Path, tmp_path: Path) -> None:
    for name in (CASES, *SHARED):
        text = (folder / name).read_text(encoding="utf-8")
        short = re.sub(r"(#define DSE_LOG_BYTES) \d+u", r"\1 600u", text)
        (tmp_path / name).write_text(short, encoding="utf-8")
    printed, whole = logged(tmp_path, tmp_path), logged(folder, tmp_path)
    kept, _, after = printed.partition("# error: dse_log is full; rows are missing\n")
    assert after == ""
    assert len(printed) < 600
    assert kept
    assert whole.startswith(kept)
    assert kept.endswith("\n")


def test_no_kernel_leaves_macros_for_the_next(tmp_path: Path) -> None:
    # With the order turned round pooling comes before convolutions, whose macros it shares.
    sources = write_sources(every_case(tmp_path)[::-1], tmp_path / "c")
    found = run(needed("cc"), *FREESTANDING, CLOCK, f"-I{sources}", "-fsyntax-only", sources / CASES)
    assert found.returncode == 0, found.stderr.decode()


REGISTERS = """
#include <stdio.h>
#include "dse_bench.h"
static uint32_t addresses[8], values[8];
static uint32_t *at(uint32_t address)
{
    int place = 0;
    while (addresses[place] != 0u && addresses[place] != address)
        place++;
    addresses[place] = address;
    return &values[place];
}
#define DSE_REGISTER(address) (*at(address))
#define __ARM_ARCH_PROFILE 77 /* 'M' */
#include "dse_timer.h"
int main(void)
{
    *at(0xE000EDFCu) = 1u, *at(0xE0001000u) = 0x40000000u, *at(0xE0001004u) = 99u;
    dse_timer_start();
    for (int place = 0; addresses[place] != 0u; place++)
        printf("%08x=%08x ", (unsigned)addresses[place], (unsigned)values[place]);
    *at(COUNTER) = VALUE;
    unsigned cycles = dse_cycles();
    WRAP;
    printf("cycles %u %u", cycles, (unsigned)dse_cycles());
    return 0;
}
"""


@pytest.mark.parametrize(("flag", "counter", "value", "wrap", "said"), [
    # TRCENA, the lock of Cortex-M7, CYCCNTENA; the other bits stay.
    ("-DDSE_DWT", "0xE0001004u", "12345u", "*at(0xE0001004u) = 0xFFFFFFFFu",
     "e000edfc=01000001 e0001000=40000001 e0001004=00000000 e0001fb0=c5acce55 cycles 12345 4294967295"),
    # 24 bits that count down; the handler counts each 2^24.
    ("-DDSE_SYSTICK", "0xE000E018u", "0xFFFFFFu - 12345u", "SysTick_Handler()",
     "e000edfc=00000001 e0001000=40000000 e0001004=00000063 e000e010=00000007 e000e014=00ffffff "
     "e000e018=00000000 cycles 12345 16789561"),
])  # fmt: skip
def test_the_registers_of_the_counter(
    folder: Path, tmp_path: Path, flag: str, counter: str, value: str, wrap: str, said: str
) -> None:
    text = REGISTERS.replace("COUNTER", counter).replace("VALUE", value).replace("WRAP", wrap)
    (tmp_path / "registers.c").write_text(text, encoding="utf-8")
    files = (tmp_path / "registers.c", "-o", tmp_path / "registers")
    found = run(needed("cc"), *FREESTANDING, flag, CLOCK, f"-I{folder}", *files)
    assert found.returncode == 0, found.stderr.decode()
    assert run(tmp_path / "registers").stdout.decode() == said


def test_the_row_has_the_minimum(folder: Path, tmp_path: Path) -> None:
    uneven = LOGGED.replace("now += 1000000000u", "now += 1000u + 10u * (++reads % 7u)")
    uneven = uneven.replace("static uint32_t now;", "static uint32_t now, reads;")
    (tmp_path / "uneven.c").write_text(uneven, encoding="utf-8")
    files = [folder / name for name in (CASES, "dse_bench.c", "dse_port.c")]
    flags = (CLOCK, "-DDSE_OWN_CYCLES", "-DDSE_MARKER_MS=0u", f"-I{folder}")
    found = run(needed("cc"), *FREESTANDING, *flags, *files, tmp_path / "uneven.c", "-o", tmp_path / "uneven")
    assert found.returncode == 0, found.stderr.decode()
    printed = run(tmp_path / "uneven").stdout.decode()
    said = re.findall(r"minimum (\d+), median (\d+) cycles", printed)
    timed = [row[COLUMNS.index("cycles")] for row in rows(printed)[1:]]
    assert timed
    assert timed == [least for least, _ in said[: len(timed)]]
    assert all(int(least) < int(middle) for least, middle in said)
