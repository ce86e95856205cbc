"""A board's rates, overheads and powers from measurements of it, each with its residual and its interval.

``calibrate`` takes rows (``Measurement``) of any origin; ``read_measurements`` reads them from a CSV file,
``run_measurements`` from a published run.
"""

from dse.calibrate.calibration import Calibration, FittedRow, FittedTerm, calibrate
from dse.calibrate.donors import Donors, donors_for, stand_in
from dse.calibrate.edit import Written, calibrated_toml
from dse.calibrate.measurement import Measurement
from dse.calibrate.mlperf import Run, load_runs
from dse.calibrate.profile import calibrated_board
from dse.calibrate.runs import find_run, predicted_measurement, run_measurements, run_name
from dse.calibrate.table import parse_measurements, read_measurements
from dse.calibrate.templates import TEMPLATES, template

__all__ = [
    "TEMPLATES",
    "Calibration",
    "Donors",
    "FittedRow",
    "FittedTerm",
    "Measurement",
    "Run",
    "Written",
    "calibrate",
    "calibrated_board",
    "calibrated_toml",
    "donors_for",
    "find_run",
    "load_runs",
    "parse_measurements",
    "predicted_measurement",
    "read_measurements",
    "run_measurements",
    "run_name",
    "stand_in",
    "template",
]
