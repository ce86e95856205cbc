"""What is counted: the default, and published papers that count otherwise as named presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dse.errors import UnknownName


@dataclass(frozen=True)
class Accounting:
    """Rules of counting. The default is the physically complete step.

    ``lowest_unit_bwd_input`` also charges an input gradient to the lowest learning unit; ``elements`` prices
    element operations, updates and call overheads beside the MACs; ``replay_headers`` counts whole bytes per
    sample, labels and the scale; ``transfers`` prices the bytes that move between levels.
    """

    name: str
    lowest_unit_bwd_input: bool = False
    elements: bool = True
    replay_headers: bool = True
    transfers: bool = True
    note: str = ""


DEFAULT: Final = Accounting("default")

QLR_CL: Final = Accounting(
    "qlr-cl",
    lowest_unit_bwd_input=True,
    elements=False,
    replay_headers=False,
    transfers=False,
    note="arXiv 2110.10486: replay bytes are N x elements x bits / 8 alone, every learning unit computes an "
    "input gradient, and neither element operations nor bytes that leave L1 are priced",
)

MCUNETV3_EXTRA: Final = Accounting(
    "mcunetv3-extra",
    note="arXiv 2206.15472: memory is also reported by the formula that names its update schemes",
)

PRESETS: Final = {preset.name: preset for preset in (DEFAULT, QLR_CL, MCUNETV3_EXTRA)}


def preset(name: str) -> Accounting:
    """Return the accounting called ``name``; raises UnknownName."""
    if name not in PRESETS:
        raise UnknownName("accounting preset", name, PRESETS, key="accounting.preset")
    return PRESETS[name]
