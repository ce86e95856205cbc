"""Published runs as measurements: the ``ad`` and ``ic`` rows of one MLPerf Tiny submission."""

from __future__ import annotations

from collections.abc import Sequence

from dse.calibrate.measurement import Measurement
from dse.calibrate.mlperf import CALIBRATION_TASKS, NETWORKS, PREDICTED_TASK, Run, load_runs
from dse.errors import Problem, UnknownName, UserError


def find_run(text: str, runs: Sequence[Run] | None = None) -> Run:
    """Return the run that ``ORGANISATION/BOARD/SOFTWARE`` names, ``@ROUND`` behind it where several do.

    The board may be given by its own name or by the label of the submission; case does not matter. Raises
    UnknownName with the nearest run, and UserError where several runs answer or it lacks ``ad`` or ``ic``.
    """
    runs = load_runs() if runs is None else runs
    words, _, round_ = text.rpartition("@") if "@" in text else (text, "", "")
    organisation, _, rest = words.partition("/")
    board, _, software = rest.rpartition("/")
    wanted = tuple(word.strip().lower() for word in (organisation, board, software))
    found = [run for run in runs if wanted in _names(run) and round_ in ("", run.round)]
    found = [run for run in found if set(CALIBRATION_TASKS) <= run.latency_s.keys()] or found
    if not found:
        raise UnknownName("run", text, sorted({run_name(run) for run in runs}), key="--mlperf")
    if len(found) > 1:
        names = ", ".join(f"{run.organisation}/{run.label}/{run.kernels}@{run.round}" for run in found)
        raise UserError(Problem("--mlperf", "", f"{text!r} names {len(found)} runs", f"one of {names}"))
    missing = [task for task in CALIBRATION_TASKS if task not in found[0].latency_s]
    if missing:
        raise UserError(
            Problem("--mlperf", "", f"{text!r} has no {' and '.join(missing)} row", "another run")
        )
    return found[0]


def run_name(run: Run) -> str:
    """Return the name under which a run is found: organisation, board and software."""
    return f"{run.organisation}/{run.board}/{run.kernels}"


def _names(run: Run) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (run.organisation.lower(), place.lower(), run.kernels.lower()) for place in (run.board, run.label)
    )


def run_measurements(run: Run, tasks: Sequence[str] = CALIBRATION_TASKS) -> tuple[Measurement, ...]:
    """Return the measured networks of ``run``, without the one that it is to predict."""
    return tuple(
        Measurement(
            dtype=run.dtype, network=NETWORKS[task], clock_hz=run.clock_hz, latency_s=run.latency_s[task],
            energy_j=run.energy_j.get(task), power_w=run.power_w.get(task), note=task, file=run_name(run),
            line=line,
        )
        for line, task in enumerate(tasks, 1)
        if task in run.latency_s
    )  # fmt: skip


def predicted_measurement(run: Run) -> Measurement:
    """Return what ``run`` is to predict, without its times."""
    return Measurement(dtype=run.dtype, network=NETWORKS[PREDICTED_TASK], clock_hz=run.clock_hz)
