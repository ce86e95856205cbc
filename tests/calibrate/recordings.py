"""Recordings of a power analyser that was never there: steps whose energy is known in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """So many seconds [s] at so many amperes [A], the marker high or not."""

    seconds: float
    amperes: float
    high: bool


@dataclass
class Recording:
    """Samples of a recording: time [s], current [A], marker."""

    time: Array
    amperes: Array
    high: NDArray[np.int64]

    @classmethod
    def of(cls, pieces: Sequence[Piece], step_s: float) -> Recording:
        """Sample pieces every ``step_s``; each lasts a whole number of steps."""
        counts = [round(piece.seconds / step_s) for piece in pieces]
        time = (np.arange(sum(counts)) + 0.5) * step_s
        amperes = np.repeat([piece.amperes for piece in pieces], counts)
        return cls(time, amperes, np.repeat([int(piece.high) for piece in pieces], counts))

    def write(
        self, path: Path, header: str, *, time: float = 1.0, current: float = 1.0, extra: str = ""
    ) -> Path:
        """Write CSV: time and current over the units, then the marker; ``extra`` cells behind each line."""
        rows = zip(self.time / time, self.amperes / current, self.high, strict=True)
        lines = [f"{t:.9g},{i:.9g},{m}{extra}" for t, i, m in rows]
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path


def bench(
    powers: Sequence[float], volts: float = 3.0, step_s: float = 1e-3, idle_a: float = 1e-3
) -> Recording:
    """Record segments of 0.5 s at ``powers`` [W] with idle stretches of 0.3 s around them."""
    pieces = [Piece(0.3, idle_a, False)]
    for power in powers:
        pieces += [Piece(0.5, power / volts, True), Piece(0.3, idle_a, False)]
    return Recording.of(pieces, step_s)
