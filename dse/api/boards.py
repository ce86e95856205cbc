"""Writing the file of a new board from what the user knows, asked for where it was not given."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from dse.errors import Problem, UserError
from dse.files import atomic_path, require_writable_file
from dse.hardware import HardwareProfile, check_board, load_board, missing_prices
from dse.hardware.new import OWN, Facts, cores, lender, new_board
from dse.hardware.write import board_toml

Ask = Callable[[str, str | None], str]
"""Called with a question and the answer that return takes; gives the answer."""

T = TypeVar("T")

FILE: Final = "dse hw new"
TRIES: Final = 3
"""How often a question is asked whose answers cannot be used."""
_NOTHING: Final[dict[str, Any]] = {
    "core": "", "like": "", "clock_mhz": None, "levels": [], "power_mw": None, "sleep_uw": None, "source": "",
}  # fmt: skip
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def write_new_board(
    name: str, given: Mapping[str, Any], folder: str | Path, *, ask: Ask | None = None
) -> str:
    """Write ``NAME.toml`` and return what was written, and what is left to measure.

    Parameters
    ----------
    name: of the board and its file.
    given: core, like, clock_mhz, levels (texts ``NAME=KIB``), power_mw, sleep_uw, source; what is not given
        may be left out.
    folder: where the file goes; an existing file is not replaced.
    ask: asks for what is missing, again where an answer cannot be used; None makes what is missing an error.

    Raises UserError with everything that is missing or wrong; then nothing is written.

    """
    path = Path(folder) / f"{name}.toml"
    problems = _name_problems(name, path)
    if problems:
        raise UserError(problems)
    facts = _facts(name, {**_NOTHING, **given}, ask)
    board = new_board(facts)
    text = board_toml(board, _header(board, facts), _comments(board, facts), {OWN: facts.source})
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")
        wrong = check_board(partial)
        if wrong:  # a file that would not load must not appear
            raise UserError([replace(problem, file=str(path)) for problem in wrong])
    return _summary(path, load_board(path), facts)


def _name_problems(name: str, path: Path) -> list[Problem]:
    if not _NAME.fullmatch(name):
        return [
            Problem(FILE, "name", repr(name), "letters, digits, dots, dashes and underscores, at most 64")
        ]
    if path.exists():
        return [Problem(str(path), "", "exists already", "another name, or another --out")]
    try:
        require_writable_file(path)
    except UserError as error:
        return list(error.problems)
    return []


def _facts(name: str, given: Mapping[str, Any], ask: Ask | None) -> Facts:
    known = ", ".join(cores())
    core = given["core"] or _asked(ask, f"core ({known})", "cortex-m4", _known_core, f"one of {known}") or ""
    missing = [] if core else [Problem(FILE, "--core", "missing", f"one of {known}")]
    like = lender(core, given["like"] or None).name if core else ""
    clock = _number(given["clock_mhz"], "clock [MHz]", ask)
    power = _number(given["power_mw"], "power at that clock while computing [mW]", ask)
    levels, problems = _levels(given["levels"], like, ask)
    question = "where these numbers stand (data sheet and revision)"
    source = given["source"] or _asked(ask, question, None, _said, "a source") or ""
    for key, value in (("--clock-mhz", clock), ("--power-mw", power), ("--source", source)):
        if not value:
            missing.append(Problem(FILE, key, "missing", "say it, or run on a terminal to be asked"))
    sleep = given["sleep_uw"]
    if sleep is not None and not (math.isfinite(sleep) and sleep >= 0):
        problems.append(Problem(FILE, "--sleep-uw", f"{sleep}", "a finite number of at least 0"))
    if missing or problems:
        raise UserError([*missing, *problems])
    assert clock is not None
    assert power is not None
    sleep_w = None if sleep is None else sleep / 1e6
    return Facts(name, like, clock * 1e6, levels, power / 1e3, source, sleep_power_w=sleep_w)


def _asked(
    ask: Ask | None, question: str, default: str | None, read: Callable[[str], T | None], wanted: str
) -> T | None:
    """Ask until ``read`` makes something of the answer; None where nobody can be asked."""
    if ask is None:
        return None
    answer = ask(question, default).strip()
    for _ in range(TRIES - 1):
        if read(answer) is not None:
            break
        answer = ask(f"not {answer!r} but {wanted}: {question}", default).strip()
    found = read(answer)
    if found is None:
        raise UserError(Problem(FILE, question, repr(answer), wanted))
    return found


def _known_core(text: str) -> str | None:
    return text if text in cores() else None


def _said(text: str) -> str | None:
    return text or None


def _number(value: float | None, question: str, ask: Ask | None) -> float | None:
    return _asked(ask, question, None, _positive, "a number above 0") if value is None else value


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _levels(texts: list[str], like: str, ask: Ask | None) -> tuple[dict[str, float], list[Problem]]:
    """Read ``NAME=KIB``; ask for the levels of the lending board that were not given."""
    found: dict[str, float] = {}
    problems = []
    for text in texts:
        level, equals, size = text.partition("=")
        value = _kib(size)
        if not equals or value is None:
            problems.append(Problem(FILE, "--level", repr(text), "NAME=KIB, such as SRAM=128"))
        elif level.strip() in found:
            problems.append(Problem(FILE, "--level", f"{level.strip()} given twice", "say it once"))
        else:
            found[level.strip()] = value
    if ask is not None and like and not problems:
        for each in load_board(like).levels:
            if each.name not in found:
                usual = f"{each.size_bytes.value / 1024:g}"
                question = f"size of {each.name} ({each.technology}) [KiB], 0 if there is none"
                found[each.name] = _asked(ask, question, usual, _kib, "a number from 0") or 0.0
    return found, problems


def _kib(text: str) -> float | None:
    """Return a size in bytes from KiB; None where it is no size."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value * 1024 if math.isfinite(value) and value >= 0 else None


def _header(board: HardwareProfile, facts: Facts) -> list[str]:
    kernels = ", ".join(f"{dtype} {library}" for dtype, library in board.default_libraries)
    return [
        board.title + ".",
        f"Given: clock, power, sizes of memory. Everything else is taken from {facts.like}, which has the",
        "same core; it is marked assumed, in an interval wider than there. Kernel libraries: "
        + kernels
        + ".",
        "Measure what matters most and replace it: dse hw bench, dse hw calibrate.",
    ]


def _comments(board: HardwareProfile, facts: Facts) -> dict[str, str]:
    borrowed = f"as {facts.like}"
    return {
        "memory": f"Sizes as given. Reserve, bandwidth, wear, energy per byte: {borrowed}; see data sheet.",
        "rate": f"MACs per cycle by kernel library: {borrowed}, the same core with other flash and caches.",
        "element": "Cycles per element: mostly instruction estimates; most of them move little.",
        "overhead": "Cycles per kernel call.",
        "operating_point": "Clock and power as given; power in training is assumed from it.",
        "sleep_state": "Sleep decides the battery life of a device that learns seldom: check these first.",
        "supply": "The regulator between battery and board; nothing of it was given.",
    }


def _summary(path: Path, board: HardwareProfile, facts: Facts) -> str:
    numbers = [quantity for _, quantity in board.numbers()]
    given = sum(quantity.source == OWN for quantity in numbers)
    lines = [
        f"{path}: {len(numbers)} numbers, {given} given, the others as {facts.like}, assumed",
        *(f"not priced: {line}" for line in missing_prices(board)),
        f"next: dse hw check {path}; dse estimate NETWORK {path}",
    ]
    return "\n".join(lines)
