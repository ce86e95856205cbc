"""A whole board: its parts, the lookups that price a plan, and every number by a stable path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple, Self, TypeVar

from pydantic import model_validator

from dse.errors import Problem, UnknownName, Unpriced, UserError
from dse.hardware.entries import (
    Battery,
    Dma,
    ElementCost,
    MemoryLevel,
    OperatingPoint,
    Overhead,
    Rate,
    SleepState,
    Supply,
    Workspace,
)
from dse.hardware.quantity import Entry, Quantity

NO_WORKSPACE: Final = "none"
COPY: Final = "copy"
COPIES_AS: Final = "concat"

Named = TypeVar("Named", MemoryLevel, OperatingPoint, SleepState)


class Numbered(NamedTuple):
    """Where one number of a profile stands: its path, the section and place of its entry, its own field."""

    path: str
    section: str
    place: int
    field: str
    quantity: Quantity


class HardwareProfile(Entry):
    """A board as data. Loading never changes it and nothing else can.

    ``default_libraries`` pairs each dtype with its kernel library; ``parts`` names what is attached;
    ``bibliography`` pairs each source key in use with its text.
    """

    name: str
    title: str
    core: str
    worker_cores: Quantity
    default_libraries: tuple[tuple[str, str], ...]
    levels: tuple[MemoryLevel, ...]
    rates: tuple[Rate, ...]
    elements: tuple[ElementCost, ...]
    overheads: tuple[Overhead, ...]
    workspaces: tuple[Workspace, ...] = ()
    dma: Dma
    operating_points: tuple[OperatingPoint, ...]
    sleep_states: tuple[SleepState, ...]
    supply: Supply
    battery: Battery
    parts: tuple[str, ...] = ()
    bibliography: tuple[tuple[str, str], ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what in ("levels", "operating_points", "sleep_states"):
            names = [entry.name for entry in getattr(self, what)]
            if len(set(names)) < len(names):
                raise ValueError(f"{what}: a name appears twice among {', '.join(names)}")
        return self

    # -- names -------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """The board with its parts as a user writes it: ``vega + hyperram-64``."""
        return " + ".join((self.name, *self.parts))

    @property
    def cores(self) -> int:
        """Cores that a kernel runs on unless said otherwise."""
        return int(self.worker_cores.value)

    @property
    def kernels(self) -> dict[str, str]:
        """The default kernel library by dtype."""
        return dict(self.default_libraries)

    def level(self, name: str) -> MemoryLevel:
        """Return the memory level ``name``; raises UnknownName."""
        return self._named("memory level", self.levels, name)

    def operating_point(self, name: str) -> OperatingPoint:
        """Return the operating point ``name``; raises UnknownName."""
        return self._named("operating point", self.operating_points, name)

    def sleep_state(self, name: str) -> SleepState:
        """Return the sleep state ``name``; raises UnknownName."""
        return self._named("sleep state", self.sleep_states, name)

    def _named(self, what: str, entries: tuple[Named, ...], name: str) -> Named:
        for entry in entries:
            if entry.name == name:
                return entry
        raise UnknownName(what, name, [entry.name for entry in entries], file=self.label)

    # -- prices ------------------------------------------------------------------------------

    def library_for(self, dtype: str, library: str | None = None) -> str:
        """Return ``library``, or the default of ``dtype``; raises Unpriced where there is none."""
        chosen = library or self.kernels.get(dtype)
        if chosen is None:
            known = ", ".join(f"{key} ({value})" for key, value in self.default_libraries)
            raise Unpriced(
                Problem(self.label, "kernels", f"no kernel library for dtype {dtype!r}", f"priced: {known}")
            )
        return chosen

    def rate(
        self, operator: str, pass_: str, dtype: str, library: str | None = None, cores: int | None = None
    ) -> Rate:
        """Return the rate of ``operator`` in ``pass_``; raises Unpriced, naming the nearest entry."""
        key = (self.library_for(dtype, library), operator, pass_, dtype, cores or self.cores)
        return self._rates.get(key) or self._unpriced("rate", key, self._rates)

    def element_cost(
        self, operation: str, pass_: str, dtype: str, library: str | None = None, cores: int | None = None
    ) -> ElementCost:
        """Return the cost of ``operation`` in ``pass_``; raises Unpriced, naming the nearest entry."""
        key = (self.library_for(dtype, library), operation, pass_, dtype, cores or self.cores)
        return self._elements.get(key) or self._unpriced("element cost", key, self._elements)

    def element_word(self, operation: str, pass_: str, dtype: str, library: str | None = None) -> str:
        """Return under which word ``operation`` is priced: ``concat`` for a copy without a price of its own.

        A concatenation is a copy of every element, and so are a transposition, a slice and a gather; but not
        where it is contained in another figure, which was measured without them.
        """
        if operation != COPY:
            return operation
        own = self.library_for(dtype, library)
        known, joined = (
            self._elements.get((own, word, pass_, dtype, self.cores)) for word in (COPY, COPIES_AS)
        )
        if known is not None or joined is None or joined.cycles_per_element.included:
            return operation
        return COPIES_AS

    def overhead(self, library: str, cores: int | None = None) -> Overhead:
        """Return the cost of one kernel call of ``library``; raises Unpriced, naming the nearest entry."""
        key = (library, cores or self.cores)
        return self._overheads.get(key) or self._unpriced("call overhead", key, self._overheads)

    def workspace(self, library: str, operator: str, pass_: str) -> str:
        """Return the name of the buffer formula of a kernel; "none" where the profile lists no buffer."""
        found = self._workspaces.get((library, operator, pass_))
        return found.formula if found else NO_WORKSPACE

    def tile_workspace(self, library: str, operator: str, pass_: str) -> str:
        """Return the name of the buffer formula of a kernel beside the tiles in a scratchpad."""
        found = self._workspaces.get((library, operator, pass_))
        return NO_WORKSPACE if found is None else found.tile_formula or found.formula

    def _unpriced(self, what: str, key: tuple[Any, ...], known: Mapping[tuple[Any, ...], object]) -> Any:
        def likeness(other: tuple[Any, ...]) -> tuple[bool, ...]:
            # What is done counts more than how: operator, pass and dtype before library and cores.
            same = [mine == theirs for mine, theirs in zip(key, other, strict=True)]
            return (*same[1:-1], same[0], same[-1])

        nearest = max(known, key=likeness) if known else None
        hint = (
            f"the nearest entry is {_key_text(nearest)}"
            if nearest
            else "the board has no such entries at all"
        )
        raise Unpriced(Problem(self.label, what, f"no figure for {_key_text(key)}", hint))

    @cached_property
    def _rates(self) -> dict[tuple[str, str, str, str, int], Rate]:
        return {rate.key: rate for rate in self.rates}

    @cached_property
    def _elements(self) -> dict[tuple[str, str, str, str, int], ElementCost]:
        return {element.key: element for element in self.elements}

    @cached_property
    def _overheads(self) -> dict[tuple[str, int], Overhead]:
        return {overhead.key: overhead for overhead in self.overheads}

    @cached_property
    def _workspaces(self) -> dict[tuple[str, str, str], Workspace]:
        return {workspace.key: workspace for workspace in self.workspaces}

    # -- numbers -----------------------------------------------------------------------------

    def numbers(self) -> tuple[tuple[str, Quantity], ...]:
        """Return every number with a path that stays the same between loads.

        Examples: ``rate[pulp-fp32,pointwise,fwd,fp32,8].mac_per_cycle``, ``memory.L2.size_bytes``,
        ``operating_point.375MHz.clock_hz``, ``battery.charge_c``.
        """
        return tuple((number.path, number.quantity) for number in self._numbered())

    def to_frame(self) -> Any:
        """Return every number as a pandas DataFrame: path, value [SI], low, high, kind, source, note."""
        import pandas as pd

        rows = [
            {
                "number": path, "value": quantity.value,
                "low": quantity.low_value, "high": quantity.high_value,
                "kind": quantity.kind.value, "source": quantity.source, "note": quantity.note,
                "included": quantity.included,
            }
            for path, quantity in self.numbers()
        ]  # fmt: skip
        return pd.DataFrame.from_records(rows)

    def with_values(self, values: Mapping[str, float]) -> HardwareProfile:
        """Return a copy with other SI values under the paths of :meth:`numbers`; the evidence stays.

        Raises UnknownName for a path that the profile does not have.
        """
        known = {number.path: number for number in self._numbered()}
        for path in values:
            if path not in known:
                raise UnknownName("number", path, known, file=self.label)
        fields = self._fields()
        for path, value in values.items():
            number = known[path]
            fields[number.section] = _replaced(fields[number.section], number, float(value))
        return type(self).model_construct(**fields)

    def with_parts(self, *parts: str) -> HardwareProfile:
        """Return the board with parts attached, each a shipped name or the path of a part's file."""
        from dse.hardware.load import read_part  # the reader builds profiles, so it imports this module

        board = self
        for name in parts:
            part, bibliography = read_part(name)
            board = board._attached(part.name, part.level, bibliography)
        return board

    def _attached(self, name: str, level: MemoryLevel, bibliography: Mapping[str, str]) -> HardwareProfile:
        if level.name in {own.name for own in self.levels}:
            found = f"a memory level named {level.name!r} is there already"
            raise UserError(Problem(self.label, name, found, "each part once, each level with its own name"))
        return type(self).model_construct(
            **self._fields()
            | {
                "levels": (*self.levels, level),
                "parts": (*self.parts, name),
                "bibliography": tuple(sorted({**dict(self.bibliography), **bibliography}.items())),
            }
        )

    def sources(self) -> dict[str, str]:
        """Return the bibliography text of every source key that the profile uses."""
        return dict(self.bibliography)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with fields replaced; the lookup tables are made anew for it."""
        return type(self).model_construct(**self._fields() | dict(update or {}))

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}

    def _numbered(self) -> Iterator[Numbered]:
        for section in type(self).model_fields:
            found = getattr(self, section)
            entries = found if isinstance(found, tuple) else (found,)
            for index, entry in enumerate(entries):
                if isinstance(entry, Entry) and not isinstance(entry, Quantity):
                    yield from _numbers_of(entry, section, index)


_SECTION_NAMES: Final = {
    "levels": "memory", "rates": "rate", "elements": "element", "overheads": "overhead",
    "operating_points": "operating_point", "sleep_states": "sleep_state",
}  # fmt: skip


def _numbers_of(entry: Entry, section: str, index: int) -> Iterator[Numbered]:
    title = _SECTION_NAMES.get(section, section)
    if isinstance(entry, Rate | ElementCost | Overhead):
        title += f"[{','.join(map(str, entry.key))}]"
    elif section in _SECTION_NAMES:
        title += f".{entry.name}"  # type: ignore[attr-defined]
    for field, quantity in _quantities(entry):
        yield Numbered(f"{title}.{field}", section, index, field, quantity)


def _quantities(entry: Entry, prefix: str = "") -> Iterator[tuple[str, Quantity]]:
    for field in type(entry).model_fields:
        value = getattr(entry, field)
        if isinstance(value, Quantity):
            yield prefix + field, value
        elif isinstance(value, Entry):
            yield from _quantities(value, f"{prefix}{field}.")


def _replaced(section: Any, number: Numbered, value: float) -> Any:
    if isinstance(section, tuple):
        entry = _with_value(section[number.place], number.field, value)
        return (*section[: number.place], entry, *section[number.place + 1 :])
    return _with_value(section, number.field, value)


def _with_value(entry: Entry, field: str, value: float) -> Entry:
    """Return a copy of ``entry`` with another value in the (dotted) ``field``."""
    first, _, rest = field.partition(".")
    old = getattr(entry, first)
    new = _with_value(old, rest, value) if rest else old.model_copy(update={"value": value})
    return entry.model_copy(update={first: new})


def _key_text(key: tuple[Any, ...]) -> str:
    *words, cores = key
    return f"{', '.join(map(str, words))} on {cores} core{'' if cores == 1 else 's'}"
