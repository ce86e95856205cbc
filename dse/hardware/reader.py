"""Read one table of a profile: units into SI, every mistake noted under the key that the user wrote."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import ValidationError

from dse.errors import Problem, allowed_names
from dse.hardware.quantity import Entry, Quantity
from dse.units import to_si
from dse.vocabulary import Evidence

T = TypeVar("T", bound=Entry)

QUANTITY_FORM = (
    'a number is written { value = 1, kind = "datasheet", source = "key" } (low, high, note optional)'
)
_BOUNDS = ("value", "low", "high")
FILE_NAMES = {"pass_": "pass"}  # field -> key of the file, where Python keeps a word for itself
_FIELD_NAMES = {key: name for name, key in FILE_NAMES.items()}


@dataclass
class Reader:
    """Turns tables into entries and keeps the problems of one file, in the order of the file.

    ``count`` counts every fault, also one that is noted already.
    """

    file: str
    known_sources: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    used_sources: set[str] = field(default_factory=set)
    count: int = 0
    _noted: set[Problem] = field(default_factory=set, repr=False)

    def fault(self, key: str, found: str, allowed: str) -> None:
        """Note one problem; the same mistake seen twice (a list that expands) counts once."""
        self.count += 1
        problem = Problem(self.file, key, found, allowed)
        if problem not in self._noted:
            self._noted.add(problem)
            self.problems.append(problem)

    def entry(self, model: type[T], raw: object, trail: str, **given: Any) -> T | None:
        """Read the table ``raw`` as ``model``; None where it has a mistake, which is then noted.

        Parameters
        ----------
        model: what the table describes; its field names are SI, the keys of the file need not be.
        raw: the table as TOML gives it.
        trail: key path of the table, for messages.
        given: fields that do not come from the file.

        """
        if not isinstance(raw, dict):
            self.fault(trail, f"{raw!r}", "must be a table")
            return None
        before = self.count
        keys = dict(self._keys(model, raw, trail, given))
        fields = dict(given)
        for name, (key, factor) in keys.items():
            value = self._value(model, name, raw[key], factor, f"{trail}.{key}")
            if value is not None:
                fields[name] = value
        self._rules(model, fields, keys, trail)
        return self._made(model, fields, keys, trail, clean=self.count == before)

    def source(self, key: object, trail: str) -> None:
        """Note a problem unless ``key`` names an entry of the bibliography."""
        if not isinstance(key, str) or not key:
            self.fault(trail, "no source", "every number needs one: a key of references.bib or of [sources]")
        elif key not in self.known_sources:
            near = allowed_names(key, tuple(self.known_sources)).partition("allowed:")[0]
            self.fault(trail, f"unknown source {key!r}", f"{near}a key of references.bib or of [sources]")
        else:
            self.used_sources.add(key)

    # -- fields ------------------------------------------------------------------------------

    def _keys(
        self, model: type[Entry], raw: Mapping[str, object], trail: str, given: Mapping[str, object]
    ) -> Iterator[tuple[str, tuple[str, float]]]:
        """Yield field -> (key of the file, factor to SI); unknown and doubled keys are problems."""
        fields = [name for name in model.model_fields if name not in given]
        seen: dict[str, str] = {}
        for key in raw:
            name, factor = _field_of(key, fields)
            if name not in fields:
                self.fault(f"{trail}.{key}", "unknown key", _nearest_key(key, fields))
            elif name in seen:
                self.fault(f"{trail}.{key}", f"says the same as {seen[name]}", "write it once")
            else:
                seen[name] = key
                yield name, (key, factor)

    def _value(self, model: type[Entry], name: str, raw: object, factor: float, trail: str) -> Any:
        """Return the value of one field, None where it has a mistake."""
        kind = _plain_type(model.model_fields[name].annotation)
        if kind is Quantity:
            return self.quantity(raw, factor, trail)
        if isinstance(kind, type) and issubclass(kind, Entry):
            return self.entry(kind, raw, trail)
        if name == "source":
            self.source(raw, trail)
        if isinstance(raw, list):
            return tuple(_scaled(item, factor) for item in raw)
        return _scaled(raw, factor)

    def quantity(self, raw: object, factor: float, trail: str) -> Quantity | None:
        """Read one number with its evidence, scaled by ``factor``; None where it has a mistake."""
        if not isinstance(raw, dict):
            self.fault(trail, f"{raw!r}", QUANTITY_FORM)
            return None
        before = self.count
        fields = self._quantity_fields(raw, trail)
        for fault in Quantity.faults(fields):  # before scaling: the message shows what the file says
            self.fault(f"{trail}.{fault.field}", fault.found, fault.allowed)
        if self.count > before:
            return None
        fields |= {name: fields[name] * factor for name in _BOUNDS if name in fields}
        for fault in Quantity.faults(fields):  # what only the unit makes absurd
            self.fault(f"{trail}.{fault.field}", fault.found, fault.allowed)
        return Quantity(**fields) if self.count == before else None

    def _quantity_fields(self, raw: Mapping[str, Any], trail: str) -> dict[str, Any]:
        known = (*_BOUNDS, "kind", "source", "note", "included")
        for key in raw:
            if key not in known:
                self.fault(f"{trail}.{key}", "unknown key", allowed_names(key, known))
        self.source(raw.get("source"), f"{trail}.source")
        fields: dict[str, Any] = {"source": raw.get("source") or "-", "note": self._text(raw, "note", trail)}
        if "included" in raw:
            return fields | self._included(raw, trail)
        if "value" not in raw:
            self.fault(trail, "no value", QUANTITY_FORM)
        for name in _BOUNDS:
            if name in raw:
                number = self._number(raw[name], f"{trail}.{name}")
                fields |= {} if number is None else {name: number}
        return fields | self._kind(raw, trail)

    def _included(self, raw: Mapping[str, Any], trail: str) -> dict[str, Any]:
        """A zero because another figure contains it: the text says which."""
        for key in ("value", "low", "high"):
            if key in raw:
                self.fault(
                    f"{trail}.{key}", "beside 'included'", "an included number has no value of its own"
                )
        why = raw["included"]
        if not isinstance(why, str) or not why.strip():
            self.fault(f"{trail}.included", f"{why!r}", "must say in which figure it is included")
            return {}
        return {"value": 0.0, "included": True, "note": why, "kind": Evidence.DERIVED}

    def _kind(self, raw: Mapping[str, Any], trail: str) -> dict[str, Any]:
        kinds = tuple(str(kind) for kind in Evidence)
        if raw.get("kind") in kinds:
            return {"kind": Evidence(raw["kind"])}
        found = f"unknown kind {raw['kind']!r}" if "kind" in raw else "no kind"
        self.fault(f"{trail}.kind", found, allowed_names(raw.get("kind", ""), kinds))
        return {}

    def _text(self, raw: Mapping[str, Any], key: str, trail: str) -> str:
        text = raw.get(key, "")
        if not isinstance(text, str):
            self.fault(f"{trail}.{key}", f"{text!r}", "must be text")
            return ""
        return text

    def _number(self, raw: object, trail: str) -> float | None:
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            self.fault(trail, f"{raw!r}", "must be a number")
            return None
        try:
            return float(raw)
        except OverflowError:  # TOML allows integers of any length
            self.fault(trail, "an integer beyond 1e308", "must be a number")
            return None

    # -- rules -------------------------------------------------------------------------------

    def _rules(
        self, model: type[Entry], fields: Mapping[str, Any], keys: Mapping[str, Any], trail: str
    ) -> None:
        """Check the entry's own rules on what could be read; a field left out counts with its default."""
        absent = {
            name: spec.get_default(call_default_factory=False)
            for name, spec in model.model_fields.items()
            if name not in keys and name not in fields and not spec.is_required()
        }
        for fault in model.faults({**absent, **fields}):
            key = keys[fault.field][0] if fault.field in keys else FILE_NAMES.get(fault.field, fault.field)
            self.fault(f"{trail}.{key}", fault.found, fault.allowed)

    def _made(
        self,
        model: type[T],
        fields: dict[str, Any],
        keys: Mapping[str, tuple[str, float]],
        trail: str,
        *,
        clean: bool,
    ) -> T | None:
        try:
            made = model(**fields)
        except ValidationError as error:
            for detail in error.errors():
                self._pydantic(cast(Mapping[str, Any], detail), fields, keys, trail)
            return None
        return made if clean else None

    def _pydantic(
        self,
        detail: Mapping[str, Any],
        fields: Mapping[str, Any],
        keys: Mapping[str, tuple[str, float]],
        trail: str,
    ) -> None:
        name = str(detail["loc"][0]) if detail["loc"] else ""
        key = keys[name][0] if name in keys else FILE_NAMES.get(name, name)
        if detail["type"] == "missing":
            if name not in keys:  # else it was there and could not be read: reported already
                self.fault(f"{trail}.{key}", "missing", "this key is required")
        elif name:  # a rule of the whole entry has no name and was reported by _rules
            self.fault(f"{trail}.{key}", f"{fields[name]!r}", detail["msg"])


def _field_of(key: str, fields: list[str]) -> tuple[str, float]:
    """Return the field that ``key`` writes, and the factor to SI."""
    if _FIELD_NAMES.get(key, key) in fields:
        return _FIELD_NAMES.get(key, key), 1.0
    return to_si(key)


def _nearest_key(key: str, fields: list[str]) -> str:
    """Say which keys are allowed, in the unit that the user wrote where a field of that kind is near."""
    si, _ = to_si(key)
    start = len(_common_prefix(si, key))
    ending, written = si[start:], key[start:]
    names = [
        name[: -len(ending)] + written if ending and name.endswith(ending) else FILE_NAMES.get(name, name)
        for name in fields
    ]
    return allowed_names(key, names)


def _common_prefix(one: str, other: str) -> str:
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return one[:index]
    return one[: min(len(one), len(other))]


def _scaled(raw: object, factor: float) -> object:
    if factor == 1.0 or isinstance(raw, bool) or not isinstance(raw, int | float):
        return raw
    try:
        return float(raw) * factor
    except OverflowError:  # TOML allows integers of any length
        return math.inf


def _plain_type(annotation: Any) -> Any:
    """Return X for ``X | None``, the annotation itself otherwise."""
    if get_origin(annotation) in (Union, types.UnionType):
        options = [option for option in get_args(annotation) if option is not type(None)]
        return options[0] if len(options) == 1 else annotation
    return annotation
