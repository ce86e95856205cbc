"""Unit suffixes of the input files, and numbers written for people.

Files keep the unit of the datasheet in the key (``clock_mhz``); inside the program everything is SI
(``clock_hz``). The conversion happens once, here.
"""

from __future__ import annotations

from math import isfinite
from typing import Final

SUFFIXES: Final[dict[str, tuple[str, float]]] = {
    # longest first where one is the end of another
    "_mb_per_s": ("_bytes_per_s", 1e6),
    "_kb_per_s": ("_bytes_per_s", 1e3),
    "_pj_per_byte": ("_j_per_byte", 1e-12),
    "_nj_per_byte": ("_j_per_byte", 1e-9),
    "_uj_per_byte": ("_j_per_byte", 1e-6),
    "_percent_per_year": ("_per_year", 1e-2),
    "_percent": ("_fraction", 1e-2),
    "_kib": ("_bytes", 1024.0),
    "_mib": ("_bytes", 1024.0**2),
    "_kb": ("_bytes", 1e3),
    "_mhz": ("_hz", 1e6),
    "_khz": ("_hz", 1e3),
    "_mw": ("_w", 1e-3),
    "_uw": ("_w", 1e-6),
    "_mah": ("_c", 3.6),
    "_ma": ("_a", 1e-3),
    "_ua": ("_a", 1e-6),
    "_na": ("_a", 1e-9),
    "_mj": ("_j", 1e-3),
    "_uj": ("_j", 1e-6),
    "_ms": ("_s", 1e-3),
    "_us": ("_s", 1e-6),
    "_ns": ("_s", 1e-9),
}

_PREFIXES: Final = (
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
)


def to_si(key: str) -> tuple[str, float]:
    """Return the SI name of ``key`` and the factor that takes its value there.

    >>> to_si("clock_mhz")
    ('clock_hz', 1000000.0)
    >>> to_si("cores")
    ('cores', 1.0)
    """
    for suffix, (si, factor) in SUFFIXES.items():
        if key.endswith(suffix):
            return key[: -len(suffix)] + si, factor
    return key, 1.0


def human(value: float, unit: str) -> str:
    """Write ``value`` [unit] with three significant digits and an SI prefix.

    >>> human(0.0622, "W")
    '62.2 mW'
    """
    if value == 0 or not isfinite(value):
        return f"{value:g} {unit}"
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def human_bytes(count: float) -> str:
    """Write a byte count in binary units, exact below 10 KiB.

    >>> human_bytes(131072)
    '128 KiB'
    """
    for factor, name in ((1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB")):
        if abs(count) >= 10 * 1024 if name == "KiB" else abs(count) >= factor:
            return f"{count / factor:.4g} {name}"
    return f"{count:.0f} B"


def human_seconds(seconds: float) -> str:
    """Write a duration in the unit that a person would use.

    >>> human_seconds(5400)
    '1.5 h'
    """
    if seconds == float("inf"):
        return "never"
    for factor, name in ((365.25 * 86400, "years"), (86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if abs(seconds) >= 2 * factor or (name in ("h", "min") and abs(seconds) >= factor):
            return f"{seconds / factor:.3g} {name}"
    return human(seconds, "s")
