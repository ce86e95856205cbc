"""What arXiv 2206.15472 publishes, and the steps of its schemes as plans of this program."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from dse.cost.memory import mcunetv3_extra_bytes, training_peak_bytes
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.policy import UnitKey, UpdatePolicy
from dse.plan.step import TrainingStep, training_step
from dse.reference import Row, load_table
from dse.workload import Workload, load_network

MCUNET: Final = "mcunet-5fps"
MOBILENET: Final = "mobilenet-v2-w0.35"
PROXYLESS: Final = "proxylessnas-w0.3"
KIB: Final = 1024.0
MIB: Final = KIB * KIB

IN_PLACE: Final = "in_place"
ACCUMULATE: Final = "accumulate"
FULL: Final = "full"


@dataclass(frozen=True)
class Scheme:
    """One published update scheme: the biases of the last k layers, and layers whose weights learn."""

    model: str
    name: str
    last_biases: int
    ratio: dict[UnitKey, float]
    kib: float
    source: str

    @property
    def policy(self) -> UpdatePolicy:
        """The scheme as an update policy; the classifier learns as well."""
        return UpdatePolicy.of_scheme(self.last_biases, self.ratio)

    @property
    def workload(self) -> Workload:
        """The network of the scheme, with 10 classes."""
        return network(self.model)

    @property
    def extra_kib(self) -> float:
        """Extra memory by the formula that names the schemes [KiB]."""
        return float(mcunetv3_extra_bytes(step_of(self.workload, self.policy))[0]) / KIB


@cache
def network(name: str) -> Workload:
    """Return a network of the paper at 128x128 pixels and 10 classes."""
    return load_network(name)


@cache
def schemes() -> tuple[Scheme, ...]:
    """Return the published schemes, MCUNet first, by size."""
    found = [_scheme(row) for row in load_table("mcunetv3_schemes")]
    return tuple(sorted(found, key=lambda scheme: (scheme.model, scheme.kib)))


def scheme(name: str) -> Scheme:
    """Return the scheme ``name``, such as ``49kb``; KeyError where there is none."""
    return {each.name: each for each in schemes()}[name]


def _scheme(row: Row) -> Scheme:
    units = map(int, row["weight_units"].split("-"))
    shares = map(float, row["weight_ratios"].split("-"))
    ratio: dict[UnitKey, float] = {unit: share for unit, share in zip(units, shares, strict=True) if share}
    return Scheme(
        row["model"], row["scheme"], int(row["last_biases"]), ratio, float(row["kib"]), source_of(row)
    )


def source_of(row: Row) -> str:
    """Return where a reference row comes from."""
    return f"{row['source']}, {row['locator']}"


def plan_of(policy: UpdatePolicy | str, update: str = IN_PLACE) -> TrainingPlan:
    """Return the plan of one int8 step on one new sample, nothing frozen, nothing replayed."""
    return TrainingPlan(
        cut=-1, policy=policy, replay="none", new_per_batch=1, learning_dtype="int8", update=update,
        epochs=1, images_per_event=1,
    )  # fmt: skip


def step_of(workload: Workload, policy: UpdatePolicy | str, update: str = IN_PLACE) -> TrainingStep:
    """Return the product's own step of :func:`plan_of`."""
    return training_step(workload, PlanBatch.from_plans(workload, [plan_of(policy, update)]))


def own_peaks_kib(workload: Workload, policy: UpdatePolicy, update: str) -> tuple[float, float]:
    """Return the peaks of the product's own step [KiB]: of the whole step, and from the loss on.

    The engine's figures leave the forward pass out, so the second is what compares with them.
    """
    step = step_of(workload, policy, update)
    clock = step.schedule.clock
    live = step.schedule.live_bytes()[:, : clock.update + 1].sum(axis=0)
    whole = float(training_peak_bytes(step)[0])
    always = whole - float(live.max())
    backward = float(np.max(live[clock.loss :])) + always
    return whole / KIB, backward / KIB
