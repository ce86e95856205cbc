"""Reads what a network file says about the network as a whole, noting every mistake under the user's own key.

A file holds ``name``, ``title``, ``source``, ``input``, ``classes`` (or ``outputs`` where there are none),
``legal_cuts`` and ``layers`` (see ``entries``). A variant of a network of the zoo names that as ``base``, in
place of input and layers, and says what differs: ``width``, ``resolution``, ``length``, ``channels``,
``classes``, ``legal_cuts``.

``weights`` names an .npz file in the same folder, or below it, with the numbers that training starts from;
``weights_sha256`` is their hash, where the two are to be held together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from dse.errors import Problem, allowed_names
from dse.workload import fields as read
from dse.workload.base import Shape, shape_text

T = TypeVar("T")

OUTPUT_WORDS: Final = ("classes", "outputs")
NUMBERS: Final = ("weights", "weights_sha256")
KEYS: Final = ("name", "title", "source", "input", *OUTPUT_WORDS, "legal_cuts", *NUMBERS, "layers")
BASE_KEYS: Final = (
    "name", "title", "source", "base", "width", "resolution", "length", "channels", "classes", "legal_cuts",
)  # fmt: skip
AXES: Final = (("channels", "height", "width"), ("channels", "length"), ("features",))


@dataclass
class Document:
    """The tables of one file and the problems found in them."""

    file: str
    table: Mapping[str, Any]
    problems: list[Problem] = field(default_factory=list)

    def fault(self, key: str, found: str, allowed: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(self.file, key, found, allowed))

    def attempt(self, key: str, reader: Callable[[], T]) -> T | None:
        """Return what ``reader`` reads; note a misfit under ``key`` and return None."""
        try:
            return reader()
        except read.Misfit as misfit:
            self.fault(key, misfit.found, misfit.allowed)
            return None

    def value(self, key: str, reader: Callable[[object], T], why: str) -> T | None:
        """Read a key that must be there; ``why`` completes the message where it is not."""
        if key not in self.table:
            self.fault(key, "missing", why)
            return None
        return self.attempt(key, lambda: reader(self.table[key]))

    def check_keys(self, table: Mapping[str, Any], known: tuple[str, ...], trail: str = "") -> None:
        """Note keys that are not known, with the nearest."""
        for key in table:
            if key not in known:
                self.fault(f"{trail}{key}", "unknown key", allowed_names(key, known))

    # --- the network as a whole ---

    def label(self, key: str) -> str:
        """Read name, title or source."""
        why = {
            "source": "say where the topology is published (or that it is your own)",
            "name": "a network has a short name",
            "title": "one line for people",
        }
        return self.value(key, read.text, why[key]) or ""

    def input_shape(
        self, resolution: tuple[int, int] | None, length: int | None, channels: int | None
    ) -> Shape | None:
        """Read the input's shape; ``resolution``, ``length`` and ``channels`` replace their axes."""
        forms = " or ".join(f"{{ {', '.join(axes)} }}" for axes in AXES)
        if "input" not in self.table:
            self.fault("input", "missing", f"a table: {forms}")
            return None
        raw: Any = self.table["input"]
        axes = next((axes for axes in AXES if isinstance(raw, dict) and set(raw) == set(axes)), None)
        if axes is None:
            found = f"keys {', '.join(raw) or 'none'}" if isinstance(raw, dict) else repr(raw)
            self.fault("input", found, f"must be a table: {forms}")
            return None
        shape = [self.attempt(f"input.{axis}", partial(read.count, raw[axis])) for axis in axes]
        known = tuple(size for size in shape if size is not None)
        return self._resized(known, resolution, length, channels) if len(known) == len(axes) else None

    def _resized(
        self, shape: Shape, resolution: tuple[int, int] | None, length: int | None, channels: int | None
    ) -> Shape:
        """Replace what is asked for; an axis that the input does not have is a problem."""
        asked = {"resolution": resolution and shape_text(resolution), "length": length, "channels": channels}
        takes = {1: (), 2: ("length", "channels"), 3: ("resolution", "channels")}[len(shape)]
        for key, value in asked.items():
            if value is not None and key not in takes:
                rule = f"takes {' and '.join(takes)}" if takes else "has a fixed number of features"
                self.fault(key, f"{value}", f"the input {shape_text(shape)} {rule}")
        if len(shape) == 1:
            return shape
        positions = (resolution or shape[1:]) if len(shape) == 3 else (length or shape[1],)
        return (channels or shape[0], *positions)

    def outputs(self) -> tuple[str, int | None]:
        """Read ``classes`` or ``outputs``: which of the two words, and the number."""
        given = [word for word in OUTPUT_WORDS if word in self.table]
        if len(given) != 1:
            found = "both" if given else "missing"
            self.fault("classes", found, "give classes, or outputs for a network that does not classify")
            return OUTPUT_WORDS[0], None
        return given[0], self.value(given[0], read.count, "")

    def legal_cuts(self) -> tuple[int, ...] | None:
        """Read the units at which users may cut; whether they are legal is checked on the whole network."""
        why = "list the units at which the network may be cut, such as [0, 1, 4]"
        return self.value("legal_cuts", read.whole_numbers, why)
