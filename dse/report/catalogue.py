"""Boards, parts and networks as plain text: what there is, and one of them in full."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from dse.hardware import (
    HardwareProfile,
    Quantity,
    list_boards,
    list_parts,
    load_board,
    load_part,
    missing_prices,
)
from dse.report import text
from dse.units import human, human_bytes
from dse.workload import Workload, list_networks, load_network

_UNITS: Final = {
    "_bytes_per_s": "B/s", "_j_per_byte": "J/B", "_bytes": "B", "_hz": "Hz", "_w": "W", "_s": "s", "_j": "J",
    "_c": "C", "_v": "V",
}  # fmt: skip


def boards_text() -> str:
    """List boards and attachable parts."""
    boards = [_board_row(load_board(name)) for name in list_boards()]
    parts = [load_part(name) for name in list_parts()]
    header = ("board", "core", "cores", "fastest", "volatile", "non-volatile", "what it is")
    attached = [
        (part.name, human_bytes(part.level.size_bytes.value), _kept(part.level.volatile), part.title)
        for part in parts
    ]
    return "\n\n".join(
        (
            text.table(header, boards),
            text.table(("part", "size", "keeps its contents", "what it is"), attached),
            "attach a part by its name: 'vega + hyperram-64'",
        )
    )


def _kept(volatile: bool) -> str:
    return "while powered" if volatile else "always"


def _board_row(board: HardwareProfile) -> tuple[Any, ...]:
    fastest = max(point.clock_hz.value for point in board.operating_points)
    sizes = {
        volatile: sum(level.size_bytes.value for level in board.levels if level.volatile is volatile)
        for volatile in (True, False)
    }
    return (
        board.name, board.core, board.cores, human(fastest, "Hz"), human_bytes(sizes[True]),
        human_bytes(sizes[False]), board.title,
    )  # fmt: skip


def board_text(board: HardwareProfile) -> str:
    """Write a board in full: memory, powers, rates, what it leaves unpriced, sources."""
    missing = missing_prices(board)
    sections = [
        f"{board.label}: {board.title}\n{board.core}, {text.plural(board.cores, 'core')} for kernels; "
        f"kernel libraries: {', '.join(f'{dtype} {name}' for dtype, name in board.default_libraries)}",
        board.note,
        "memory\n" + _levels(board),
        "operating points\n" + _points(board),
        "sleep states\n" + _sleep(board),
        "rates\n" + _rates(board),
        "every other number\n" + _others(board),
        "not priced by the default libraries\n" + "\n".join(missing) if missing else "",
        "sources\n" + "\n".join(f"{key}: {entry}" for key, entry in sorted(board.sources().items())),
    ]
    return "\n\n".join(section for section in sections if section)


def _levels(board: HardwareProfile) -> str:
    rows = [
        (
            level.name, level.technology, level.access, human_bytes(level.size_bytes.value),
            human_bytes(level.size_bytes.value - level.usable_bytes), _kept(level.volatile), level.domain,
            level.size_bytes.kind.value, level.size_bytes.source,
        )
        for level in board.levels
    ]  # fmt: skip
    header = ("level", "kind", "reached", "size", "reserve", "keeps", "power domain", "evidence", "source")
    return text.table(header, rows)


def _points(board: HardwareProfile) -> str:
    rows = [
        (
            point.name, quantity_text("clock_hz", point.clock_hz),
            quantity_text("power_w", point.inference_power_w),
            quantity_text("power_w", point.training_power_w), ", ".join(point.domains),
            point.training_power_w.kind.value, point.training_power_w.source,
        )
        for point in board.operating_points
    ]  # fmt: skip
    return text.table(("name", "clock", "inference", "training", "includes", "evidence", "source"), rows)


def _sleep(board: HardwareProfile) -> str:
    rows = [
        (
            state.name, quantity_text("power_w", state.power_w), ", ".join(state.retains),
            quantity_text("wake_s", state.wake_s), quantity_text("wake_j", state.wake_j),
            state.power_w.kind.value, state.power_w.source,
        )
        for state in board.sleep_states
    ]  # fmt: skip
    return text.table(("name", "power", "retains", "wake time", "wake energy", "evidence", "source"), rows)


def _rates(board: HardwareProfile) -> str:
    rows = [
        (
            rate.library, rate.operator, rate.pass_, rate.dtype, rate.cores,
            quantity_text("mac_per_cycle", rate.mac_per_cycle), rate.mac_per_cycle.kind.value,
            rate.mac_per_cycle.source,
        )
        for rate in board.rates
    ]  # fmt: skip
    header = ("library", "operator", "pass", "dtype", "cores", "MAC/cycle", "evidence", "source")
    return text.table(header, rows)


def _others(board: HardwareProfile) -> str:
    shown = ("rate[", "operating_point.", "sleep_state.")
    rows = [
        (path, quantity_text(path, quantity), quantity.kind.value, quantity.source)
        for path, quantity in board.numbers()
        if not path.startswith(shown)
    ]
    return text.table(("number", "value", "evidence", "source"), rows)


def quantity_text(name: str, quantity: Quantity) -> str:
    """Write a number in the unit that the end of ``name`` says, with its interval where it has one."""
    if quantity.included:
        return "0, included elsewhere"
    value = _si(name, quantity.value)
    if quantity.low_value == quantity.value == quantity.high_value:
        return value
    return f"{value} ({_si(name, quantity.low_value)} .. {_si(name, quantity.high_value)})"


def _si(name: str, value: float) -> str:
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return human_bytes(value) if unit == "B" else human(value, unit)
    return text.percent(value) if name.endswith(("_fraction", "_per_year")) else f"{value:g}"


def networks_text() -> str:
    """List the networks that come with the program."""
    header = ("network", "input", "units", "MACs", "weights", "outputs", "what it is")
    return text.table(header, [_network_row(load_network(name)) for name in list_networks()])


def _network_row(network: Workload) -> tuple[Any, ...]:
    return (
        network.name, _shape(network.input_shape), len(network.units), text.count(network.total_macs),
        text.count(network.total_weights), network.classes, network.title,
    )  # fmt: skip


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def network_text(network: Workload) -> str:
    """Write a network in full: its units, and what latent replay would store at each legal cut."""
    header = ("unit", "name", "operator", "output", "MACs", "weights", "cut", "LR layer", "at 8 bits")
    lines = [
        f"{network.name}: {network.title}",
        f"input {_shape(network.input_shape)}, {network.classes} outputs, "
        f"{text.count(network.total_macs)} MACs (one sample, forward), "
        f"{text.count(network.total_weights)} weights",
        f"source: {network.source}",
    ]
    return "\n".join(lines) + "\n\n" + text.table(header, _unit_rows(network))


def _unit_rows(network: Workload) -> Iterator[tuple[Any, ...]]:
    for unit in network.units:
        legal = unit.index in network.legal_cuts
        yield (
            unit.index, unit.name, unit.operator, _shape(network.shapes[unit.layer]), text.count(unit.macs),
            text.count(unit.weight_params), "legal" if legal else "",
            _shape(network.cut_shape(unit.index)) if legal else "",
            human_bytes(network.cut_elements(unit.index)) if legal else "",
        )  # fmt: skip
