"""Less than 64 MB: which published design of arXiv 2110.10486 stays below, and what the bytes are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from dse.cost.accounting import QLR_CL
from dse.cost.model import Context, describe, price
from dse.hardware import load_board
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.reference import Row, load_table
from dse.reproduce.base import Comparison
from dse.reproduce.qlr_paper import NETWORK
from dse.vocabulary import ReferenceEvidence
from dse.workload import load_network

LIMIT_BYTES: Final = 64e6
MEMORY: Final = "bytes of all roles on all levels"
BOARD: Final = "vega + hyperram-64"


@dataclass(frozen=True)
class Design:
    """A design with a published accuracy [%] and its bytes: RAM at its peak, and non-volatile."""

    cut: int
    n_replays: int
    replay_bits: int
    accuracy_percent: float
    ram_bytes: float
    nvm_bytes: float

    @property
    def name(self) -> str:
        """LR layer, N and bits."""
        return f"LR layer {self.cut}, N {self.n_replays}, {self.replay_bits} bits"

    @property
    def total_bytes(self) -> float:
        """RAM and non-volatile memory together, as the claim adds them."""
        return self.ram_bytes + self.nvm_bytes


def plan_of(cut: int, n_replays: int, replay_bits: int) -> TrainingPlan:
    """Return the plan of a published design, one image at a time so that activations stay small."""
    return TrainingPlan(cut=cut, n_replays=n_replays, replay_bits=replay_bits)


@cache
def designs() -> tuple[Design, ...]:
    """Return the published designs with an int8 frozen stage, priced under preset ``qlr-cl``."""
    rows = [row for row in load_table("qlrcl_accuracy") if row["frozen_bits"] == "8" and row["n_lr"]]
    plans = [plan_of(*_decisions(row)) for row in rows]
    context = _context()
    costs = price(context, PlanBatch.from_plans(context.workload, plans))
    return tuple(
        Design(*_decisions(row), float(row["accuracy_pct"]), float(ram), float(nvm))
        for row, ram, nvm in zip(rows, costs.ram_peak_bytes, costs.nvm_bytes, strict=True)
    )


def _decisions(row: Row) -> tuple[int, int, int]:
    return int(row["lr_layer"]), int(row["n_lr"]), int(row["lr_bits"])


def _context() -> Context:
    return Context(load_network(NETWORK), load_board(BOARD), accounting=QLR_CL)


def best_below() -> Design:
    """Return the most accurate design below the limit."""
    return max((d for d in designs() if d.total_bytes < LIMIT_BYTES), key=lambda d: d.accuracy_percent)


def roles_of(design: Design) -> Mapping[str, float]:
    """Return the bytes of each role at the moment of the RAM peak, largest first; they sum to the total."""
    context = _context()
    plans = PlanBatch.from_plans(
        context.workload, [plan_of(design.cut, design.n_replays, design.replay_bits)]
    )
    _, placement = describe(context, plans)
    costs = price(context, plans)
    roles = {str(role): float(size[0]) for role, size in placement.peak_role_bytes.items()}
    roles |= {
        "replay samples": float(costs.replay_bytes[0]),
        "new samples": float(costs.new_sample_bytes[0]),
        "labels": float(costs.label_bytes[0]),
    }
    return {name: size for name, size in sorted(roles.items(), key=lambda item: -item[1]) if size}


def memory_rows() -> tuple[Comparison, ...]:
    """Hold the most accurate design against the claim."""
    design = best_below()
    roles = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in roles_of(design).items())
    return (
        Comparison(
            name=design.name,
            quantity=MEMORY,
            unit="B",
            model=design.total_bytes,
            published=LIMIT_BYTES,
            evidence=ReferenceEvidence.ARITHMETIC,
            calibrated=False,
            source="arXiv:2110.10486v1, abstract",
            relation="<",
            note=roles,
        ),
    )


def memory_summary() -> tuple[str, ...]:
    """Say which published designs stay below the limit and which do not."""
    below = [d for d in designs() if d.total_bytes < LIMIT_BYTES]
    above = [d for d in designs() if d.total_bytes >= LIMIT_BYTES]
    best, top = best_below(), max(designs(), key=lambda d: d.accuracy_percent)
    return (
        f"less than 64 MB: {len(below)} of {len(designs())} published designs; the most accurate is "
        f"{best.name} at "
        f"{best.accuracy_percent:.1f} %, {best.ram_bytes / 1e6:.1f} MB RAM + {best.nvm_bytes / 1e6:.1f} MB "
        "non-volatile",
        "above 64 MB: "
        + "; ".join(f"{d.name} {d.total_bytes / 1e6:.1f} MB" for d in above)
        + f". The most accurate design of all, {top.name} at {top.accuracy_percent:.1f} %, is among them",
        "one image at a time; batch statistics over 128 images, with which the accuracies were obtained, "
        "would keep the "
        f"activations of all of them: {_batch_statistics_bytes(best) / 1e6:.0f} MB of RAM for {best.name}",
    )


def _batch_statistics_bytes(design: Design) -> float:
    plan = TrainingPlan(
        cut=design.cut,
        n_replays=design.n_replays,
        replay_bits=design.replay_bits,
        micro_batch=128,
        bn_mode="batch_stats",
    )
    context = _context()
    return float(price(context, PlanBatch.from_plans(context.workload, [plan])).ram_peak_bytes[0])
