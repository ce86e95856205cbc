"""PULP-TrainLib in simulation: single kernels calibrate rates, whole training steps are predicted.

Sources: the PULP-TrainLib tutorial (exercises 01 and 02, GVSoC) and the abstract of arXiv 2305.19167.
The step of exercise 01 is priced by the cost model: a convolution, ReLU and a linear layer on one
sample, no input gradient for the convolution. The six kernels are calibrated; the weight update is
counted in instructions, two loads, one multiply-add and one store per weight, spread evenly over the
cores. What the steps leave beyond their kernels (5.0 cycles per weight on one core) is printed beside
them, so the count was not made blind. Loss and set-up have no figure and cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dse.cost.accounting import DEFAULT
from dse.cost.model import Context, price
from dse.hardware import HardwareProfile, load_board
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.reference import Row, load_table
from dse.reproduce.base import Bound, Comparison, Reproduction, Statistics
from dse.reproduce.networks import experiment_network
from dse.vocabulary import ReferenceEvidence
from dse.workload import Workload, load_network

CYCLES: Final = "cycles of a training step"
KERNEL_CYCLES: Final = "cycles of a kernel"
RATE: Final = "MAC/cycle of a training step"
UPDATE_CYCLES_PER_WEIGHT: Final = 4.0  # load weight, load gradient, multiply-add, store; hardware loop
CORES: Final = (1, 8)
LIBRARY: Final = "pulp-fp32"
SLOT_CORES: Final = 8  # the profile's figures are for eight cores; those of one core take their place
NETWORKS: Final = {"ResNet8 training step": "resnet8", "DS-CNN training step": "ds-cnn"}
PASSES: Final = {"fwd": "FW", "bwd_weight": "WG", "bwd_input": "IG"}


def reproduce() -> Reproduction:
    """Predict whole steps from single kernels."""
    steps = tuple(_step_row(cores) for cores in CORES)
    rows = (*_kernel_rows(), *steps, _parallel_row(), *_fp16_rows())
    errors = Statistics.of(row.error for row in steps)
    found = Reproduction(
        "trainlib",
        "PULP-TrainLib in simulation: single kernels calibrate, whole steps are predicted",
        rows,
        unpredicted=tuple(_unpredicted(row) for row in _published()),
    )
    against = tuple(
        bound for quantity in found.quantities for bound in found.against_nulls(quantity, ("median",))
    )
    return replace(
        found,
        summary=(
            f"whole steps of exercise 01: {errors}",
            *(_without_update(row) for row in steps),
            "fp16: one kernel's rate carries over to ResNet8, which is dense convolutions, and not to "
            "DS-CNN, whose "
            "small depthwise and pointwise layers are far from that kernel",
            *(f"the model loses to its null model: {bound.text}" for bound in against if not bound.holds),
        ),
        bounds=(
            Bound("whole steps of exercise 01 within 5 %", all(abs(row.error) < 0.05 for row in steps)),
            *against,
        ),
    )


# --- exercise 01 ---


def kernel(operator: str, pass_: str, cores: int, dtype: str = "fp32", matmul: str | None = None) -> Row:
    """Return the single-kernel row of a tutorial exercise; raises KeyError."""
    for row in load_table("trainlib"):
        key = (row["operator"], row["pass"], int(row["cores"] or 0), row["dtype"])
        if row["cycles"] and key == (operator, pass_, cores, dtype) and matmul in (None, row["matmul"]):
            return row
    raise KeyError((operator, pass_, cores, dtype, matmul))


def calibrated_board(cores: int) -> HardwareProfile:
    """Return a PULP cluster with the kernel figures of exercise 01 for ``cores`` cores, and nothing else
    priced.
    """
    board = load_board("vega")
    values = {
        path: 0.0
        for path, _ in board.numbers()
        if path.startswith((f"element[{LIBRARY},", f"overhead[{LIBRARY},"))
    }
    for operator, pass_, column in (
        ("conv2d", "fwd", "FW"),
        ("conv2d", "bwd_weight", "WG"),
        ("linear", "fwd", "FW"),
        ("linear", "bwd_input", "WG+IG"),
        ("linear", "bwd_weight", "WG+IG"),
    ):
        row = kernel(operator, column, cores)
        path = f"rate[{LIBRARY},{operator},{pass_},fp32,{SLOT_CORES}].mac_per_cycle"
        values[path] = float(row["macs"]) / float(row["cycles"])
    for pass_, column in (("fwd", "FW"), ("bwd_input", "BW")):
        path = f"element[{LIBRARY},relu,{pass_},fp32,{SLOT_CORES}].cycles_per_element"
        values[path] = float(kernel("relu", column, cores)["cycles"]) / _relu_elements()
    path = f"element[{LIBRARY},update_sgd,update,fp32,{SLOT_CORES}].cycles_per_element"
    return board.with_values(values | {path: UPDATE_CYCLES_PER_WEIGHT / cores})


def exercise() -> Workload:
    """Return the network of exercise 01."""
    return experiment_network("trainlib-exercise-01")


def _relu_elements() -> int:
    return exercise().units[0].output_elements


def step_cycles(cores: int) -> float:
    """Return the cycles of one training step on one sample, everything in L1."""
    workload, board = exercise(), calibrated_board(cores)
    plan = TrainingPlan(
        cut=-1,
        replay="none",
        frozen_bits=32,
        new_per_batch=1,
        images_per_event=1,
        epochs=1,
        update="in_place",
    )
    context = Context(workload, board, accounting=replace(DEFAULT, name="all in L1", transfers=False))
    costs = price(context, PlanBatch.from_plans(workload, [plan]))
    return float(costs.minibatch_s[0]) * board.operating_points[0].clock_hz.value


def _update_cycles(cores: int) -> float:
    return exercise().total_weights * UPDATE_CYCLES_PER_WEIGHT / cores


def _step_row(cores: int) -> Comparison:
    published = kernel("training step", "FW+WG+IG", cores)
    conv, model = kernel("conv2d", "FW", cores), step_cycles(cores)
    return _comparison(
        published,
        f"exercise 01, {cores} core{'s' * (cores > 1)}",
        CYCLES,
        "cycles",
        model,
        float(published["cycles"]),
        {
            "MACs x one factor": float(published["macs"]) * float(conv["cycles"]) / float(conv["macs"]),
            "six kernels alone": model - _update_cycles(cores),
        },
    )


def _without_update(row: Comparison) -> str:
    kernels = row.null_models["six kernels alone"]
    alone = f"{kernels:.0f} cycles ({kernels / row.published - 1:+.1%})"
    return f"{row.name}: kernels alone {alone}, with the update {row.error:+.1%}"


def _kernel_rows() -> tuple[Comparison, ...]:
    """List the rows that the rates were taken from."""
    names = (
        ("conv2d", "FW"),
        ("conv2d", "WG"),
        ("relu", "FW"),
        ("relu", "BW"),
        ("linear", "FW"),
        ("linear", "WG+IG"),
    )
    found = [kernel(operator, pass_, cores) for cores in CORES for operator, pass_ in names]
    return tuple(
        _comparison(
            row,
            f"{row['operator']} {row['pass']}, {row['cores']} core(s)",
            KERNEL_CYCLES,
            "cycles",
            float(row["cycles"]),
            float(row["cycles"]),
            {},
            calibrated=True,
        )
        for row in found
    )


# --- exercise 02 and the fp16 networks ---


def _parallel_row() -> Comparison:
    """Predict a kernel on eight cores from one core, with the speed-up of another kernel."""
    single = float(kernel("linear", "IG", 1, "fp16", "transposed SIMD mm")["cycles"])
    speedup = float(kernel("linear", "WG+IG", 1)["cycles"]) / float(kernel("linear", "WG+IG", 8)["cycles"])
    row = kernel("linear", "IG", 8, "fp16", "transposed SIMD mm")
    return _comparison(
        row,
        "exercise 02, linear IG fp16, 8 cores",
        KERNEL_CYCLES,
        "cycles",
        single / speedup,
        float(row["cycles"]),
        {"ideal speed-up": single / SLOT_CORES},
        note=f"one core over the speed-up of fp32 linear backward, {speedup:.2f}",
    )


def _published() -> tuple[Row, ...]:
    return tuple(row for row in load_table("trainlib") if row["step_ms"])


def step_macs(workload: Workload) -> Mapping[tuple[str, str], int]:
    """MACs of one training step on one sample by operator and pass; the first unit has no input gradient."""
    macs: dict[tuple[str, str], int] = {}
    for unit in workload.units:
        for pass_ in PASSES:
            if unit.index or pass_ != "bwd_input":
                key = (unit.operator, pass_)
                macs[key] = macs.get(key, 0) + unit.macs
    return macs


def fp16_mac_per_cycle(workload: Workload) -> float:
    """MAC/cycle of a training step with every dense operator at the one fp16 kernel that is published.

    Depthwise layers: the same times depthwise over pointwise of the fp32 kernels on VEGA, by pass.
    """
    row, board = kernel("linear", "IG", 8, "fp16", "transposed SIMD mm"), load_board("vega")
    dense = float(row["macs"]) / float(row["cycles"])
    cycles = 0.0
    for (operator, pass_), macs in step_macs(workload).items():
        rates = [board.rate(name, pass_, "fp32").mac_per_cycle.value for name in ("depthwise", "pointwise")]
        cycles += macs / (dense * (rates[0] / rates[1] if operator == "depthwise" else 1.0))
    return sum(step_macs(workload).values()) / cycles


def _fp16_rows() -> tuple[Comparison, ...]:
    fp32 = kernel("linear", "WG+IG", 8)
    null = float(fp32["macs"]) / float(fp32["cycles"])
    return tuple(
        _comparison(
            row,
            f"{row['layer']} fp16, 8 cores",
            RATE,
            "MAC/cycle",
            fp16_mac_per_cycle(load_network(NETWORKS[row["operator"]])),
            float(row["mac_per_cycle"]),
            {"fp32 kernel": null},
            note="network taken from the zoo; the study's own is not published",
        )
        for row in _published()
    )


def _unpredicted(row: Row) -> str:
    """Say why the time of a step cannot be predicted: what clock its three figures would imply."""
    macs = sum(step_macs(load_network(NETWORKS[row["operator"]])).values())
    clock_hz = macs / float(row["mac_per_cycle"]) / (float(row["step_ms"]) * 1e-3)
    return (
        f"{row['layer']}, {row['step_ms']} ms per step: no clock is given, and {macs / 1e6:.1f} M MACs at "
        f"{row['mac_per_cycle']} "
        f"MAC/cycle in that time would need {clock_hz / 1e6:.0f} MHz, so network, passes or batch must "
        "differ from the zoo's"
    )


def _comparison(
    row: Row,
    name: str,
    quantity: str,
    unit: str,
    model: float,
    published: float,
    nulls: Mapping[str, float],
    *,
    calibrated: bool = False,
    note: str = "",
) -> Comparison:
    return Comparison(
        name=name,
        quantity=quantity,
        unit=unit,
        model=model,
        published=published,
        evidence=ReferenceEvidence(row["evidence"]),
        calibrated=calibrated,
        source=f"{row['source']}, {row['locator']}",
        null_models=nulls,
        note=note or row["note"],
    )
