"""A number with its evidence, and the base of everything that a profile is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, model_validator

from dse.errors import allowed_names
from dse.vocabulary import Evidence, is_custom

LARGEST: Final = 1e15
"""No number of a board is larger, in SI units: beyond it a unit has slipped."""


class Fault(NamedTuple):
    """One broken rule of one entry: the field, what was found there, what is allowed."""

    field: str
    found: str
    allowed: str


class Entry(BaseModel):
    """A frozen part of a profile that refuses unknown keys and checks its own rules.

    The rules live in :meth:`faults`, which also works on the fields that could be read of a broken
    entry: that is how a file reports all of its mistakes at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    positive: ClassVar[tuple[str, ...]] = ()
    """Quantities that must be above zero."""
    fractions: ClassVar[tuple[str, ...]] = ()
    """Quantities that must lie in 0..1."""
    words: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Fields whose value is a word of the vocabulary."""
    custom: ClassVar[tuple[str, ...]] = ()
    """Fields among ``words`` that also take ``custom:NAME``."""

    @classmethod
    def faults(cls, fields: Mapping[str, Any]) -> Iterator[Fault]:
        """Yield every broken rule among the given fields (a subset of the entry's fields)."""
        for name in cls.positive:
            quantity = fields.get(name)
            if quantity is not None and quantity.low_value <= 0 and not quantity.included:
                yield Fault(name, f"{quantity.low_value:g}", "must be above zero")
        for name in cls.fractions:
            quantity = fields.get(name)
            if quantity is not None and quantity.high_value > 1:
                yield Fault(name, f"{quantity.high_value:g}", "must be in 0..1 (0 to 100 percent)")
        for name, known in cls.words.items():
            word = fields.get(name)
            if isinstance(word, str) and word not in known and not (name in cls.custom and is_custom(word)):
                yield Fault(name, f"unknown {name.rstrip('_')} {word!r}", allowed_names(word, known))

    @model_validator(mode="after")
    def _hold_rules(self) -> Self:
        faults = list(type(self).faults({name: getattr(self, name) for name in type(self).model_fields}))
        if faults:
            raise ValueError("; ".join(f"{fault.field}: {fault.found}: {fault.allowed}" for fault in faults))
        return self


class Quantity(Entry):
    """A value [SI], the interval it may lie in, and how it is known.

    ``included`` marks a zero that is no zero: another figure of the profile already contains it, and
    ``note`` says which. ``kind`` "assumed" needs ``low`` and ``high``.
    """

    value: float
    low: float | None = None
    high: float | None = None
    kind: Evidence
    source: str
    note: str = ""
    included: bool = False

    @property
    def low_value(self) -> float:
        """Lower end of the interval [SI]; the value itself where no interval is given."""
        return self.value if self.low is None else self.low

    @property
    def high_value(self) -> float:
        """Upper end of the interval [SI]; the value itself where no interval is given."""
        return self.value if self.high is None else self.high

    @classmethod
    def faults(cls, fields: Mapping[str, Any]) -> Iterator[Fault]:
        """Yield every broken rule: finite, not negative, low <= value <= high, interval where assumed."""
        bounds = {name: fields[name] for name in ("value", "low", "high") if fields.get(name) is not None}
        for name, number in bounds.items():
            if not math.isfinite(number) or number < 0:
                yield Fault(name, f"{number:g}", "must be a finite number, not negative")
            elif number > LARGEST:
                yield Fault(
                    name, f"{number:g}", f"no board has more than {LARGEST:g} of anything, in SI units"
                )
        value, low, high = (bounds.get(name) for name in ("value", "low", "high"))
        if value is not None and low is not None and low > value:
            yield Fault("low", f"{low:g} above the value {value:g}", "low <= value <= high")
        if value is not None and high is not None and high < value:
            yield Fault("high", f"{high:g} below the value {value:g}", "low <= value <= high")
        if fields.get("kind") is Evidence.ASSUMED and (low is None or high is None):
            yield Fault("kind", "'assumed' without an interval", "an assumed number needs low and high")
        if "source" in fields and not fields["source"]:
            yield Fault(
                "source", "no source", "every number needs one: a key of references.bib or of [sources]"
            )
