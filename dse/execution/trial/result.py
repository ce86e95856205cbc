"""What a trial found, and how a certificate says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dse.units import human_bytes

NOT_ASKED: Final = "nobody asked for it; whether the lifespans carry a step was not tried"
"""Why nothing was executed, where there is no other reason."""


@dataclass(frozen=True)
class Trial:
    """One plan that was executed inside its arenas and outside, or was not: which is what stands by default.

    ``compared``: both executions came to their end. ``reason`` says why none was made; ``violation`` what
    broke in the arenas; ``difference`` the first number that is not that of the step outside. ``arenas`` are
    names and sizes [B] of the levels; ``labels_held``: whether labels have buffers in them. ``loss`` is the
    mean over the samples that ran, as executed outside of the arenas. ``parameters`` are the numbers that the
    step updates (what learns, or the state of a head), ``changed`` those that have another value afterwards;
    ``operations`` and ``macs`` those of one execution.
    """

    compared: bool = False
    reason: str = ""
    violation: str = ""
    difference: str = ""
    loss: float = 0.0
    samples: int = 0
    micro_batches: int = 0
    planned_samples: int = 0
    planned_micro_batches: int = 0
    captured: bool = False
    operations: int = 0
    macs: int = 0
    arenas: tuple[tuple[str, int], ...] = ()
    labels_held: bool = True
    parameters: int = 0
    changed: int = 0

    @property
    def executed(self) -> bool:
        """Whether anything was executed; where not, the trial speaks neither for nor against the map."""
        return self.compared or bool(self.violation)

    @property
    def equal(self) -> bool:
        """Whether the step ran inside the arenas and left, bit by bit, what it leaves outside."""
        return self.compared and not self.violation and not self.difference

    @property
    def failed(self) -> bool:
        """Whether the step was executed, and the map did not carry it."""
        return self.executed and not self.equal

    @property
    def text(self) -> str:
        """One line for a certificate."""
        if not self.executed:
            return f"not executed: {self.reason or NOT_ASKED}"
        if self.violation:
            return f"execution failed: {_line(self.violation)}"
        if self.difference:
            return f"execution failed: {self.difference} inside the arenas, {self._steps}"
        labels = "" if self.labels_held else " (labels outside: the accounting does not count them)"
        return (
            f"executed on random numbers: {self._steps} inside {self._inside}{labels}; {self.parameters:,} "
            "parameters updated, equal bit by bit to the same step outside the arenas"
        )

    @property
    def arena_bytes(self) -> int:
        """Bytes of all arenas."""
        return sum(size for _, size in self.arenas)

    @property
    def _inside(self) -> str:
        sizes = [f"{human_bytes(size)} of {level}" for level, size in self.arenas]
        return " and ".join([", ".join(sizes[:-1]), sizes[-1]] if len(sizes) > 1 else sizes)

    @property
    def _steps(self) -> str:
        samples, whole = _some(self.samples, "sample"), self.micro_batches == self.planned_micro_batches
        if whole:
            parts = f"one mini-batch of {samples}"
            if self.micro_batches > 1:
                parts += f" in {self.micro_batches:,} micro-batches"
        else:
            parts = f"{self.micro_batches} of the {self.planned_micro_batches:,} micro-batches ({samples} of "
            parts += f"{self.planned_samples:,}) of one mini-batch with its update"
        images = "one captured image, " if self.captured else ""
        return f"{images}{parts} and one inference"


def _some(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _line(text: str) -> str:
    """The first of several problems, and how many more there are."""
    lines = text.splitlines()
    return lines[0] + (f" (and {len(lines) - 1:,} more)" if len(lines) > 1 else "")
