"""Small C benchmarks of the numbers that decide how sure a price is, for a Cortex-M with a cycle counter."""

from dse.calibrate.bench.cases import Case, Setting
from dse.calibrate.bench.choice import ByHand, Chosen, Subject, choose
from dse.calibrate.bench.folder import Benchmarks, benchmarks, require_core, write_folder
from dse.calibrate.bench.work import Work, work_of

__all__ = [
    "Benchmarks",
    "ByHand",
    "Case",
    "Chosen",
    "Setting",
    "Subject",
    "Work",
    "benchmarks",
    "choose",
    "require_core",
    "work_of",
    "write_folder",
]
