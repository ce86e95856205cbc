"""Reads the ``layers`` of a network file.

A layer has a ``kind``, a ``name``, the keys of its kind, and

- ``inputs``: names of what it reads; left out, it reads the layer before it;
- ``then``: kinds that follow it at once, each named ``<name>.<kind>``; who reads ``<name>`` reads the last.

``kernel``, ``stride`` and, of convolutions, ``dilation`` take one number for all axes or a list with one per
axis. ``padding`` is ``"same"`` or such numbers of zeros, each for both ends of its axis or a list
``[before, after]``: ``padding = [[1, 0], 2]``, and ``[[2, 0]]`` for a series.

``out_channels`` and ``out_features`` take a number, which a width scales, or ``"classes"`` (``"outputs"``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from typing import Any, Final, TypeVar

from dse.workload import fields as read
from dse.workload.base import Layer, Shape, shape_text
from dse.workload.build import INPUT, LARGEST, Assembly
from dse.workload.document import Document
from dse.workload.forward_only import ForwardOnly
from dse.workload.layers import LAYER_KINDS
from dse.workload.windows import Sliding

T = TypeVar("T")

MOST_LAYERS: Final = 4096
OWN_KEYS: Final = ("kind", "name", "inputs", "then")


def keys_of(cls: type[Layer]) -> dict[str, bool]:
    """Keys of a layer kind, and whether each must be given."""
    return {item.name: item.default is MISSING for item in fields(cls) if item.name not in OWN_KEYS}


SIMPLE_KINDS: Final = tuple(
    kind for kind, cls in LAYER_KINDS.items() if not any(keys_of(cls).values()) and not cls.many_inputs
)
"""Kinds that need nothing but an input, and so can stand in ``then``."""


@dataclass
class Entry:
    """One item of ``layers``: its key path, and what could be read of it (``cls`` None: not enough)."""

    trail: str
    name: str
    inputs: tuple[str, ...]
    cls: type[Layer] | None = None
    values: dict[str, Any] = field(default_factory=dict)
    then: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Names of its layers, the last of which is what others read."""
        return (self.name, *(f"{self.name}.{kind}" for kind in self.then))

    def layers(self, inputs: tuple[str, ...]) -> list[Layer]:
        """Make its layers; ``inputs`` are names of layers, not of entries."""
        if self.cls is None:
            return []
        names = self.names()
        made = [self.cls(name=self.name, inputs=inputs, **self.values)]
        for kind, name, before in zip(self.then, names[1:], names[:-1], strict=True):
            made.append(LAYER_KINDS[kind](name=name, inputs=(before,)))
        return made


@dataclass
class LayerReader:
    """Turns the tables of ``layers`` into an assembly; problems go to the document."""

    document: Document
    output_word: str
    outputs: int | None
    width: float

    def assembly(self, input_shape: Shape | None) -> Assembly:
        """Read all layers; the assembly carries on with the problems of the document."""
        entries = self._entries()
        ends = {entry.name: entry.names()[-1] for entry in entries}
        self._require_size(entries, input_shape)
        assembly = Assembly(self.document.file, [], input_shape, problems=self.document.problems)
        for entry in entries:
            made = entry.layers(tuple(ends.get(name, name) for name in entry.inputs))
            assembly.layers += made
            assembly.keys |= {layer.name: entry.trail for layer in made}
            assembly.unread |= set() if made else set(entry.names())
        return assembly

    def _require_size(self, entries: list[Entry], input_shape: Shape | None) -> None:
        """Refuse another input than the file's where a layer runs forward only: it has one shape."""
        fixed = [entry.name for entry in entries if entry.cls is not None and entry.cls.forward_only]
        if fixed and input_shape is not None and input_shape != self.document.input_shape(None, None, None):
            rule = f"{fixed[0]} runs forward only and has one shape: the input stays as the file says"
            self.document.fault("input", f"resized to {shape_text(input_shape)}", rule)

    def _entries(self) -> list[Entry]:
        raw = self.document.value("layers", _layer_tables, "a list of tables, one per layer")
        entries: list[Entry] = []
        taken = {INPUT}
        for place, table in enumerate(raw or ()):
            entry = self._entry(place, table, entries[-1].name if entries else INPUT)
            for name in entry.names():
                if name in taken:
                    entry.cls = None
                    why = "it means the network input" if name == INPUT else "each name is used once"
                    self.document.fault(f"{entry.trail}.name", f"the name {name!r} is taken", why)
                taken.add(name)
            entries.append(entry)
        if len(taken) > MOST_LAYERS:
            self.document.fault("layers", f"{len(taken) - 1} layers", f"must be at most {MOST_LAYERS}")
        return entries

    def _entry(self, place: int, table: object, before: str) -> Entry:
        trail = f"layers[{place}]"
        if not isinstance(table, dict):
            self.document.fault(trail, repr(table), "must be a table with kind and name")
            return Entry(trail, trail, (before,))
        name = self._item(table, trail, "name", read.text)
        entry = Entry(f"layers.{name}" if name else trail, name or trail, (before,))
        if "inputs" in table:
            entry.inputs = self._item(table, entry.trail, "inputs", read.texts) or ()
        if "then" in table:
            entry.then = self._item(table, entry.trail, "then", _simple_kinds) or ()
        kind = self._item(table, entry.trail, "kind", _layer_kind)
        if kind is not None:
            self._fill(entry, LAYER_KINDS[kind], table)
        return entry

    def _fill(self, entry: Entry, cls: type[Layer], table: Mapping[str, Any]) -> None:
        """Read the keys of the kind; the entry gets its class only if all of them are right."""
        before = len(self.document.problems)
        keys = keys_of(cls)
        self.document.check_keys(table, (*OWN_KEYS, *keys), f"{entry.trail}.")
        for key, needed in keys.items():
            if key in table:
                reader = self._reader(cls, key)
                entry.values[key] = self.document.attempt(f"{entry.trail}.{key}", partial(reader, table[key]))
            elif needed:
                self.document.fault(f"{entry.trail}.{key}", "missing", f"{cls.kind} needs it")
        if len(self.document.problems) == before and issubclass(cls, ForwardOnly):
            self.document.attempt(entry.trail, partial(_forward_only, cls, entry, self.width))
        if len(self.document.problems) == before and entry.inputs:
            entry.cls = cls

    def _reader(self, cls: type[Layer], key: str) -> Callable[[object], Any]:
        rank = cls.rank if issubclass(cls, Sliding) else None
        readers: dict[str, Callable[[object], Any]] = {
            "out_channels": self._outputs,
            "out_features": self._outputs,
            "kernel": partial(read.sizes, rank=rank),
            "stride": partial(read.sizes, rank=rank),
            "padding": partial(read.padding, rank=rank),
            "dilation": partial(read.sizes, rank=rank),
            "groups": read.count,
            "bias": read.flag,
            "operation": read.text,
            "shape": read.shape,
            "forward_macs": partial(read.whole, most=LARGEST),
            "weights": partial(read.whole, most=LARGEST),
            "biases": partial(read.whole, most=LARGEST),
        }
        return readers[key]

    def _outputs(self, value: object) -> int:
        """Read a number of channels, scaled by the width; the network's outputs are never scaled."""
        if isinstance(value, str):
            read.word(value, (self.output_word,), "size")
            return self.outputs or 1
        return read.scaled(read.count(value), self.width)

    def _item(
        self, table: Mapping[str, Any], trail: str, key: str, reader: Callable[[object], T]
    ) -> T | None:
        if key not in table:
            self.document.fault(f"{trail}.{key}", "missing", "every layer has a kind and a name")
            return None
        return self.document.attempt(f"{trail}.{key}", partial(reader, table[key]))


def _forward_only(cls: type[ForwardOnly], entry: Entry, width: float) -> None:
    """Refuse values that exclude each other, and a width: shape and MACs are as they stand."""
    try:
        cls(name=entry.name, inputs=entry.inputs, **entry.values)
    except ValueError as error:
        raise read.Misfit(str(error), "") from None
    if width != 1:
        raise read.Misfit(f"width {width:g}", "a layer that runs forward only has one size")


def _layer_tables(value: object) -> list[object]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_LAYERS:
        found = f"{len(value)} layers" if isinstance(value, list) else repr(value)
        raise read.Misfit(found, f"must be a list of 1 to {MOST_LAYERS} tables")
    return value


def _layer_kind(value: object) -> str:
    return read.word(value, tuple(LAYER_KINDS), "layer kind")


def _simple_kinds(value: object) -> tuple[str, ...]:
    return tuple(read.word(kind, SIMPLE_KINDS, "kind for 'then'") for kind in read.texts(value))
