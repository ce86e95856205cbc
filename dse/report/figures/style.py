"""The look of all figures, and how they reach a file: the same bytes for the same content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from dse.files import atomic_path
from dse.units import human, human_bytes, human_seconds

# Okabe and Ito: told apart by every kind of colour vision, and in grey by lightness.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"
INK, GREY, FAINT = "#222222", "#767676", "#C8C8C8"

RC: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 11.0,
    "axes.titlesize": 12.0,
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 11.0,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "legend.frameon": False,
    "legend.fontsize": 10.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "dse",
    "svg.fonttype": "path",
}

SCREEN_DPI: Final = 90
DPI: Final = 160


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of this module, whatever the user's own settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, RC))
        yield


class ShownFigure(Figure):
    """A figure that a notebook shows as it is, whatever drawing backend is active."""

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        with styled():
            self.savefig(picture, format="png", dpi=SCREEN_DPI)
        return picture.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of ``width`` x ``height`` inches whose parts keep out of each other's way."""
    return ShownFigure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` (.png, .svg, .pdf) without a date in it, complete or not at all."""
    metadata: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix, {})
    if path.suffix == ".png":
        metadata = {"Software": None}
    with styled(), atomic_path(path) as partial:
        figure.savefig(partial, dpi=DPI, metadata=metadata)


def save_all(figure: Figure, stem: Path) -> tuple[Path, ...]:
    """Write ``figure`` as png and svg beside each other."""
    with styled():
        figure.draw_without_rendering()  # lay out once for all files
    figure.set_layout_engine("none")
    paths = tuple(stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "svg"))
    for path in paths:
        save(figure, path)
    return paths


# --- axes that speak the reader's units ---


def _bytes(value: float, _: object = None) -> str:
    return human_bytes(value) if value >= 1 else "0"


def _seconds(value: float, _: object = None) -> str:
    return human_seconds(value) if value > 0 else "0"


def _joules(value: float, _: object = None) -> str:
    return human(value, "J") if value > 0 else "0"


def _percent(value: float, _: object = None) -> str:
    return f"{value * 100:.3g} %"


FORMATS: Final = {"B": _bytes, "s": _seconds, "J": _joules, "fraction": _percent}

_STEPS: Final = {
    "B": tuple((1024.0**power, name) for power, name in ((3, "GiB"), (2, "MiB"), (1, "KiB"), (0, "B"))),
    "s": ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "J": ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")),
    "fraction": ((1e-2, "%"),),
}


def linear_ticks(axis: Any, unit: str, high: float, low: float = 0.0, most: int = 5) -> None:
    """Put round ticks on ``axis`` (``axes.xaxis`` or ``.yaxis``), all in the one unit that suits ``high``."""
    factor, name = next((step for step in _STEPS[unit] if high >= 1.2 * step[0]), _STEPS[unit][-1])
    places = np.asarray(MaxNLocator(most).tick_values(low / factor, high / factor))
    if unit == "B":
        step = 2.0 ** np.ceil(np.log2((high - low) / factor / most))
        places = np.arange(0.0, high / factor + step, step)
    places = places[(places >= low / factor - 1e-9) & (places <= high / factor + 1e-9)]
    axis.set_ticks(places * factor, [f"{place:g} {name}" if place else "0" for place in places])


def log_ticks(axis: Any, unit: str, low: float, high: float, most: int = 6) -> None:
    """Put a handful of round ticks on the logarithmic ``axis``, round in the unit that each is written in."""
    places = np.zeros(0)
    for steps in ((1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)):
        if len(places) < 3:
            places = _round_numbers(unit, steps)
            places = places[(places >= low * 0.98) & (places <= high * 1.02)]
    places = places[:: max(-(-len(places) // most), 1)]  # the same stride throughout
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_major_formatter(FuncFormatter(FORMATS[unit]))
    axis.set_minor_locator(NullLocator())


def _round_numbers(unit: str, steps: tuple[float, ...]) -> Any:
    if unit == "B":
        finer = (1.0,) if len(steps) < 3 else (1.0, 1.5)
        return np.array([step * 2.0**power for power in range(45) for step in finer])
    decimal = np.array([step * 10.0**decade for decade in range(-9, 10) for step in steps])
    if unit != "s":
        return decimal
    tens = np.array([step * ten for ten in (1, 10) for step in steps])
    years = decimal[(decimal >= 1) & (decimal < 1e4)]
    longer = [60 * tens[tens < 60], 3600 * tens[tens < 24], 86400 * decimal[(decimal >= 1) & (decimal < 365)]]
    return np.concatenate([decimal[decimal < 60], *longer, 365.25 * 86400 * years])


def quiet(axes: Axes) -> None:
    """Take away ticks on an axis whose entries are named already."""
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
