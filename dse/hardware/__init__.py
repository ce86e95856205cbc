"""What a board is and what doing costs on it: profiles read from TOML, checked, and looked up.

A profile knows no technique: it prices operators, element operations, bytes, watts and seconds.
"""

from dse.hardware.check import check_board, missing_prices
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
    WaitStates,
    Workspace,
)
from dse.hardware.load import list_boards, list_parts, load_board, load_part
from dse.hardware.profile import HardwareProfile
from dse.hardware.quantity import Quantity

__all__ = [
    "Battery",
    "Dma",
    "ElementCost",
    "HardwareProfile",
    "MemoryLevel",
    "OperatingPoint",
    "Overhead",
    "Quantity",
    "Rate",
    "SleepState",
    "Supply",
    "WaitStates",
    "Workspace",
    "check_board",
    "list_boards",
    "list_parts",
    "load_board",
    "load_part",
    "missing_prices",
]
