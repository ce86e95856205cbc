"""The space of designs that a TOML file describes: what may vary, hard limits, and what is wanted."""

from __future__ import annotations

import hashlib
import json
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dse.accuracy import SOURCES, AccuracySource, Unmeasured
from dse.cost.acceptance import accepting
from dse.cost.accounting import DEFAULT, PRESETS, Accounting
from dse.cost.context import Context, Duty
from dse.cost.model import OBJECTIVES
from dse.errors import Problem, UserError
from dse.hardware import HardwareProfile, load_board
from dse.hardware.accept import read_accept
from dse.hardware.load import split_board
from dse.hardware.variant import split_variant
from dse.search.blocks import Axes, Block, Kind, blocks_of
from dse.search.budgets import Budget, budgets_on, read_budgets
from dse.search.choices import (
    DECISIONS,
    Choices,
    codes_of,
    cuts_of,
    read_choices,
    require_somewhere,
    require_units,
)
from dse.search.networks import file_beside, listed_entries, read_networks
from dse.search.reader import Reader, shown
from dse.search.settings import MeasureSettings, SearchSettings, read_measure, read_search
from dse.workload import Workload

KEYS: Final = (
    "name", "networks", "boards", "objectives", "accuracy", "choices", "budgets", "duty", "accounting",
    "search", "task", "measure", "accept",
)  # fmt: skip
DEFAULT_OBJECTIVES: Final = ("accuracy", "ram_peak_bytes", "event_j")
NO_ACCURACY: Final = "none"
MEASURED: Final = Unmeasured.name
LARGEST_FILE: Final = 1 << 20  # bytes


@dataclass(frozen=True)
class Space:
    """Everything that a search needs; ``blocks`` are all of its designs."""

    name: str
    networks: tuple[Workload, ...]
    network_names: tuple[str, ...]
    boards: tuple[HardwareProfile, ...]
    objectives: tuple[str, ...]
    accuracy: AccuracySource | None
    choices: Choices
    budgets: tuple[Budget, ...]
    duty: Duty
    accounting: Accounting
    search: SearchSettings
    codes: Mapping[tuple[int, int], Axes]
    """Codes per decision on (board, network)."""
    tables: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What it was read from, as written."""
    folder: Path | None = field(default=None, compare=False)
    """Where relative paths in ``tables`` start, before the working directory."""
    task: Mapping[str, Any] | None = None
    """What is learned, as the file says it: a table that is read where training starts."""
    measure: MeasureSettings | None = None
    """How to spend training runs; None where accuracy is not measured."""
    made: bool = field(default=False, compare=False)
    """Whether options made it: then a run folder holds it as a file that can be edited."""
    withheld: tuple[tuple[int, int], ...] = ()
    """Designs (first index, one behind the last) whose buffers could not be placed in memory."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, file: str = "space", folder: Path | None = None) -> Space:
        """Build a space from the tables of a file. Raises UserError with every problem.

        ``file`` stands in messages; paths of networks and boards are looked up in ``folder`` first.
        """
        return _read_space(Reader(file), data, folder)

    @property
    def task_folder(self) -> Path | None:
        """Where relative paths in ``task`` start."""
        return self.folder

    @cached_property
    def contexts(self) -> dict[tuple[int, int], Context]:
        """The pricing context of every (board, network)."""
        return {
            (b, n): Context(network, board, self.duty, self.accounting)
            for b, board in enumerate(self.boards)
            for n, network in enumerate(self.networks)
        }

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, by board, then network, then kind; design indices run through them in this order."""
        found: list[Block] = []
        first = 0
        for (board, network), context in self.contexts.items():
            codes = self.codes[board, network]
            policies = self.choices.policies
            for block in blocks_of(
                context, board, network, codes, self.choices.values["batch"], policies, first, self.withheld
            ):
                found.append(block)
                first += block.size
        return tuple(found)

    @cached_property
    def size(self) -> int:
        """Number of distinct designs, those that are illegal as written included."""
        return sum(block.size + block.dropped for block in self.blocks)

    def board_blocks(self, board: int) -> Iterator[Block]:
        """Yield the blocks of one board."""
        return (block for block in self.blocks if block.board == board)

    def board_budgets(self, board: int) -> tuple[Budget, ...]:
        """Return the budgets that apply on a board, in their order."""
        return budgets_on(self.boards[board], self.budgets)

    def block_of(self, index: int) -> Block:
        """Return the block that holds design ``index``."""
        filled = [block for block in self.blocks if block.size]
        return filled[bisect_right([block.first for block in filled], index) - 1]

    def locate(self, board: int, network: int, decisions: Mapping[str, Any]) -> int | None:
        """Return the index of the design with ``decisions`` (codes; ``batch`` a pair), or None.

        None where the event is shorter than a mini-batch. Decisions that mean nothing for the design's head,
        kind of replay or learning dtype are ignored.
        """
        names = ("head", "replay", "batch", "n_replays", "learning_dtype")
        kind = Kind.of(*(decisions[name] for name in names))
        block = self._by_kind[board, network, kind]
        if len(block.event["images_per_event"]) == 0 or (
            decisions["images_per_event"] not in block.event["images_per_event"]
        ):
            return None
        return block.position({name: value for name, value in decisions.items() if name != "batch"})

    @cached_property
    def _by_kind(self) -> dict[tuple[int, int, Kind], Block]:
        return {(block.board, block.network, block.kind): block for block in self.blocks}

    @cached_property
    def content_hash(self) -> str:
        """Sha256 of all that determines the front."""
        content: dict[str, object] = {
            "networks": [network.training_hash for network in self.networks],
            "boards": [board.model_dump_json() for board in self.boards],
            "objectives": self.objectives,
            "accuracy": self.accuracy.name if self.accuracy else NO_ACCURACY,
            "codes": [[list(key), axes] for key, axes in self.codes.items()],
            "batches": self.choices.values["batch"],
            "policies": [str(policy) for policy in self.choices.policies],
            "budgets": [[budget.name, budget.limit] for budget in self.budgets],
            "duty": vars(self.duty),
            "accounting": self.accounting.name,
        }
        if self.measure is not None:
            content |= {"task": self.task, "measure": vars(self.measure)}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def load_space(path: str | Path) -> Space:
    """Read a space from a TOML file. Raises UserError with every problem at once."""
    return Space.from_dict(read_tables(path), file=str(path), folder=Path(path).parent)


def read_tables(path: str | Path) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises UserError where it cannot be read, or is too large."""
    file = Path(path)
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise UserError(Problem(str(path), "", f"{file.stat().st_size} bytes", f"at most {LARGEST_FILE}"))
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(
            Problem(str(path), "", f"cannot be read: {reason}", "a TOML file that describes a space")
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        # ValueError: a number of thousands of digits.
        raise UserError(Problem(str(path), "", f"not TOML: {error}", "see toml.io")) from None


def _read_space(reader: Reader, data: Mapping[str, Any], folder: Path | None) -> Space:
    reader.known_keys(data, KEYS)
    networks, names = read_networks(reader, data, folder)
    boards = _accepted(reader, data, networks, _boards(reader, data, folder))
    objectives = _objectives(reader, data)
    accuracy = _accuracy(reader, data, objectives)
    if "accuracy" in objectives and accuracy is None:
        reader.wrong("objectives", "'accuracy' with accuracy = 'none'", f"a source: {', '.join(SOURCES)}")
    choices = read_choices(reader, reader.table(data, "choices"))
    name = data.get("name", Path(reader.file).stem)
    if not isinstance(name, str):
        reader.wrong("name", shown(name), "text")
    space = Space(
        name=str(name) if isinstance(name, str) else "",
        networks=networks, network_names=names, boards=boards,
        objectives=objectives, accuracy=accuracy, choices=choices,
        budgets=read_budgets(reader, reader.table(data, "budgets"), boards),
        duty=_duty(reader, reader.table(data, "duty")),
        accounting=_accounting(reader, reader.table(data, "accounting")),
        search=read_search(reader, reader.table(data, "search")),
        codes=_codes(reader, networks, boards, choices),
        tables=data, folder=folder,
        task=reader.table(data, "task") if "task" in data else None,
        measure=_measure(reader, data, objectives),
    )  # fmt: skip
    reader.raise_problems()
    return space


def _codes(
    reader: Reader, networks: tuple[Workload, ...], boards: tuple[HardwareProfile, ...], choices: Choices
) -> dict[tuple[int, int], Axes]:
    """What the choices mean on every board and network; batches stay outside, because they are pairs."""
    values = choices.values
    common = {name: values[name] for name in DECISIONS if name not in ("batch", "cut")}
    all_cuts = [cut for network in networks for cut in network.legal_cuts]
    somewhere = not networks or require_somewhere(reader, "cut", values["cut"], all_cuts)
    cuts = [cuts_of(reader if somewhere else Reader(""), network, values["cut"]) for network in networks]
    for network in networks:
        require_units(reader, network, choices.policies)
    per_board = {}
    for name, entries in (
        ("operating_point", "operating_points"), ("sleep_state", "sleep_states"), ("replay_level", "levels")
    ):  # fmt: skip
        known = [entry.name for board in boards for entry in getattr(board, entries)]
        somewhere = not boards or require_somewhere(reader, name, values[name], known)
        mine = reader if somewhere else Reader("")  # one mistake, one message
        per_board[name] = [codes_of(mine, board, name, values[name]) for board in boards]
    return {
        (b, n): {**common, "cut": cuts[n], **{name: codes[b] for name, codes in per_board.items()}}
        for b in range(len(boards))
        for n in range(len(networks))
    }


def _boards(reader: Reader, data: Mapping[str, Any], folder: Path | None) -> tuple[HardwareProfile, ...]:
    found: dict[str, HardwareProfile] = {}
    for key, entry in listed_entries(reader, data, "boards"):
        if not isinstance(entry, str):
            reader.wrong(key, shown(entry), "a board with its parts, such as 'vega + hyperram-64'")
            continue
        try:
            board = load_board(" + ".join(_board_beside(piece, folder) for piece in split_board(entry)))
        except UserError as error:
            reader.adopt(error, key)
            continue
        found[board.label] = board
    return tuple(found.values())


def _board_beside(piece: str, folder: Path | None) -> str:
    """Return a board or part, its file found beside the space file, with its kernel libraries."""
    own, changes = split_variant(piece)
    return file_beside(own, folder) + (f"@{changes}" if changes else "")


def _accepted(
    reader: Reader, data: Mapping[str, Any], networks: tuple[Workload, ...],
    boards: tuple[HardwareProfile, ...],
) -> tuple[HardwareProfile, ...]:  # fmt: skip
    """Return ``boards`` with bounds for what the table ``accept`` names: see ``dse.hardware.accept``."""
    try:
        asked = read_accept(reader.table(data, "accept"), file=reader.file, key="accept")
        if not (asked and networks and boards):
            return boards
        return accepting(boards, networks, asked, file=reader.file, key="accept")
    except UserError as error:
        reader.problems += error.problems
        return boards


def _objectives(reader: Reader, data: Mapping[str, Any]) -> tuple[str, ...]:
    found = data.get("objectives", list(DEFAULT_OBJECTIVES))
    if not isinstance(found, list | tuple):
        reader.wrong("objectives", shown(found), "a list of 2 to 4 names")
        return DEFAULT_OBJECTIVES
    known = tuple(OBJECTIVES)  # a tuple, because a file may hold what cannot be hashed
    for number, name in enumerate(found):
        if name not in known:
            reader.unknown(f"objectives[{number}]", "objective", name, OBJECTIVES)
    if not 2 <= len(found) <= 4:
        reader.wrong("objectives", f"{len(found)} names", "2 to 4 at once")
    if len({str(name) for name in found}) < len(found):
        reader.wrong("objectives", "a name appears twice", "each objective once")
    return tuple(str(name) for name in found if name in known)


def _accuracy(reader: Reader, data: Mapping[str, Any], wanted: tuple[str, ...]) -> AccuracySource | None:
    name = data.get("accuracy", next(iter(SOURCES)) if "accuracy" in wanted else NO_ACCURACY)
    if name == NO_ACCURACY:
        return None
    if name == MEASURED:
        return Unmeasured()
    if name not in tuple(SOURCES):
        reader.unknown("accuracy", "accuracy source", name, (*SOURCES, MEASURED, NO_ACCURACY))
        return SOURCES[next(iter(SOURCES))]()
    return SOURCES[name]()


def _measure(reader: Reader, data: Mapping[str, Any], objectives: tuple[str, ...]) -> MeasureSettings | None:
    table = reader.table(data, "measure")
    settings = read_measure(reader, table)
    if data.get("accuracy") != MEASURED:
        if "measure" in data:
            reader.wrong(
                "measure", "a table without its purpose", f"accuracy = {MEASURED!r}, or leave it out"
            )
        return None
    if "accuracy" not in objectives:
        reader.wrong(
            "objectives", f"accuracy = {MEASURED!r} that no objective needs", "'accuracy' among them"
        )
    return settings


def _duty(reader: Reader, table: Mapping[str, Any]) -> Duty:
    known = ("events_per_day", "inferences_per_day", "capture_ms", "capture_mj", "horizon_events")
    reader.known_keys(table, known, "duty")
    default = Duty()
    return Duty(
        reader.number(table, "events_per_day", "duty", default.events_per_day, above=True),
        reader.number(table, "inferences_per_day", "duty", default.inferences_per_day),
        reader.number(table, "capture_ms", "duty", default.capture_s * 1e3) / 1e3,
        reader.number(table, "capture_mj", "duty", default.capture_j * 1e3) / 1e3,
        reader.integer(table, "horizon_events", "duty", default.horizon_events, 1, 1_000_000),
    )


def _accounting(reader: Reader, table: Mapping[str, Any]) -> Accounting:
    reader.known_keys(table, ("preset",), "accounting")
    return PRESETS[reader.word(table, "preset", "accounting", DEFAULT.name, PRESETS)]
