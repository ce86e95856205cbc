"""One on-line head on silicon: TinyOL on a Cortex-M4 at 84 MHz, its frozen network and its RAM.

The frozen network is predicted from the fp32 rate of a linear network (``ad``) on another Cortex-M4, a
PSoC 62 measured for MLPerf Tiny. Head and RAM are what the cost model says for the shipped profile of
the board, whose fp32 rate comes from the STM32L476. Nothing is fitted to the rows of this study.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from dse.calibrate.mlperf import CALIBRATION_TASKS, PREDICTED_TASK, Run, load_runs, task_macs
from dse.cost.model import Context, Costs, price
from dse.hardware import HardwareProfile, load_board
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.reference import Row, load_table
from dse.reproduce.base import Bound, Comparison, Reproduction, comparison_text
from dse.reproduce.networks import experiment_network
from dse.vocabulary import ReferenceEvidence
from dse.workload import Workload

BOARD: Final = "stm32f401re"
LIBRARY: Final = "cm4-fp32"
FROZEN: Final = "frozen model time"
HEAD: Final = "head time per step"
RAM: Final = "max allocated RAM"
HEAD_UNIT: Final = 2


def reproduce() -> Reproduction:
    """Predict the frozen network, the head and the RAM."""
    rows = (_frozen_from_psoc(), _frozen_from_profile(), _head(), _ram())
    return Reproduction(
        "heads-stm32",
        "TinyOL head on a Cortex-M4 at 84 MHz, silicon",
        rows,
        summary=(
            *(comparison_text(row) for row in rows),
            "head: the model prices 2048 MACs, an update of 1032 parameters and a softmax over 8 classes; "
            f"the measured step takes {_published(HEAD) * 84e3:.0f} cycles, "
            f"about {_published(HEAD) * 84e3 / 2048:.0f} per MAC. The study does not publish its loops, and "
            "no "
            "rate of a tuned library tells their speed",
            "RAM: the model counts what the step works on; the measured figure is all that the firmware "
            "allocates",
        ),
        unpredicted=(
            "accuracy (86.13 % on 5 + 3 gesture letters): it is learned on data that a cost model does not "
            "see",
        ),
        bounds=(Bound("frozen network within 5 %, from the PSoC 62 rate", abs(rows[0].error) < 0.05),),
    )


@cache
def network() -> Workload:
    """Return the frozen layers 600-128-128 with the head 128 to 8."""
    return experiment_network("gesture-mlp")


def frozen_macs() -> int:
    """MACs of the frozen layers."""
    return sum(unit.macs for unit in network().units[:HEAD_UNIT])


def psoc_fp32() -> Run:
    """Return the fp32 run on a Cortex-M4 other than an STM32."""
    return next(run for run in load_runs() if run.core == "cortex-m4" and run.dtype == "fp32")


def _table_row(quantity: str) -> Row:
    return next(row for row in load_table("heads_stm32") if row["quantity"] == quantity)


def _published(quantity: str) -> float:
    return float(_table_row(quantity)["value"])


def _costs(board: HardwareProfile) -> Costs:
    plan = TrainingPlan(cut=HEAD_UNIT, head="tinyol", frozen_bits=32, images_per_event=1)
    return price(Context(network(), board), PlanBatch.from_plans(network(), [plan]))


def _clock_hz() -> float:
    return load_board(BOARD).operating_point("84MHz").clock_hz.value


def _all_tasks_cycles_per_mac(run: Run) -> float:
    tasks = (*CALIBRATION_TASKS, PREDICTED_TASK)
    cycles = sum(run.latency_s[task] * run.clock_hz for task in tasks)
    return cycles / sum(task_macs(task) for task in tasks)


def _frozen_from_psoc() -> Comparison:
    run = psoc_fp32()
    seconds = frozen_macs() * run.linear / _clock_hz()
    note = f"{run.name}: {1 / run.linear:.4f} MAC/cycle in ad, weights in flash and activations included"
    return _comparison("rate of ad on PSoC 62", FROZEN, seconds * 1e3, note, _frozen_nulls())


def _frozen_from_profile() -> Comparison:
    seconds = float(_costs(load_board(BOARD)).frozen_image_s[0])
    low, high = (float(_costs(_at(end)).frozen_image_s[0]) * 1e3 for end in ("high_value", "low_value"))
    note = f"profile {BOARD}: training rate of the STM32L476, with flash reads, ReLU and calls priced apart"
    return _comparison("shipped profile", FROZEN, seconds * 1e3, note, _frozen_nulls(), low, high)


def _at(end: str) -> HardwareProfile:
    """Return the board with every fp32 figure of its library at one end of its interval."""
    board = load_board(BOARD)
    return board.with_values(
        {
            path: getattr(quantity, end)
            for path, quantity in board.numbers()
            if path.startswith(f"rate[{LIBRARY},")
        }
    )


def _frozen_nulls() -> dict[str, float]:
    """MACs at the mean rate of all networks on the PSoC 62, convolutions included."""
    return {"MACs x one factor": frozen_macs() * _all_tasks_cycles_per_mac(psoc_fp32()) / _clock_hz() * 1e3}


def _head() -> Comparison:
    board = load_board(BOARD)
    macs = 2 * network().units[HEAD_UNIT].macs  # forward and weight gradient; nothing lies below
    nulls = {"MACs x one factor": macs / frozen_macs() * _published(FROZEN)}
    low, high = (float(_costs(_at(end)).minibatch_s[0]) * 1e3 for end in ("high_value", "low_value"))
    return _comparison(
        "TinyOL, 128 features, 8 classes",
        HEAD,
        float(_costs(board).minibatch_s[0]) * 1e3,
        "one sample: forward, gradient, update",
        nulls,
        low,
        high,
    )


def _ram() -> Comparison:
    board = load_board(BOARD)
    step = float(_costs(board).ram_peak_bytes[0])
    reserve = board.level("SRAM").reserve_bytes
    kept, low, high = (
        (0.0, 0.0, 0.0) if reserve is None else (reserve.value, reserve.low_value, reserve.high_value)
    )
    return _comparison(
        "TinyOL, 128 features, 8 classes",
        RAM,
        (step + kept) / 1e3,
        f"step {step / 1e3:.1f} kB and the assumed reserve for stack, RTOS and drivers",
        {"head weights alone": network().units[HEAD_UNIT].weight_params * 4 / 1e3},
        (step + low) / 1e3,
        (step + high) / 1e3,
    )


def _comparison(
    name: str,
    quantity: str,
    model: float,
    note: str,
    nulls: dict[str, float],
    low: float | None = None,
    high: float | None = None,
) -> Comparison:
    row = _table_row(quantity)
    return Comparison(
        name=name,
        quantity=quantity,
        unit=row["unit"],
        model=model,
        published=float(row["value"]),
        low=low,
        high=high,
        evidence=ReferenceEvidence(row["evidence"]),
        calibrated=False,
        source=f"{row['source']}, {row['locator']}",
        null_models=nulls,
        note=note,
    )
