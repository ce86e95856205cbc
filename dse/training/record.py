"""What one training run observed, as a value that survives a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from dse.errors import Problem, UserError


@dataclass(frozen=True)
class RunRecord:
    """The observation of one run. Accuracies are fractions; NaN where a metric is not defined.

    ``matrix`` row i, column j: accuracy after experience i (0: after pretraining) on the samples of part j.
    ``replay_bytes`` are the bytes that the buffer really held, ``state_bytes`` those of a head's own state.
    ``cpu_s`` is processor time of the run; ``pretrain_s`` what of it went into pretraining (0 when cached).
    """

    key: str
    plan_key: str
    data_hash: str
    seed: int
    rate: float
    split: str
    reference: str
    accuracy: float
    average_accuracy: float
    forgetting: float
    backward_transfer: float
    matrix: tuple[tuple[float, ...], ...]
    per_experience: tuple[float, ...]
    """Accuracy over all classes seen so far, after each experience."""
    test_samples: int
    replay_bytes: int
    state_bytes: int
    cpu_s: float
    pretrain_s: float
    wall_s: float
    collapsed: bool = False
    """Whether replayed learning ended in a loss that is no number, or in one answer to every sample."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; NaN becomes None."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, file: str = "record") -> RunRecord:
        """Read a record back. Raises UserError where something is missing or of another type."""
        problems = [
            Problem(file, item.name, "missing", "a record as a run writes it")
            for item in fields(cls)
            if item.name not in data and item.default is MISSING
        ]
        if problems:
            raise UserError(problems)
        try:
            there = [item for item in fields(cls) if item.name in data]
            return cls(**{item.name: _typed(str(item.type), data[item.name]) for item in there})
        except (TypeError, ValueError) as error:
            raise UserError(Problem(file, "", f"not a record: {error}", "")) from None


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _typed(kind: str, value: Any) -> Any:
    if kind.startswith("tuple[tuple"):
        return tuple(tuple(_number(one) for one in row) for row in value)
    if kind.startswith("tuple"):
        return tuple(_number(one) for one in value)
    if kind == "float":
        return _number(value)
    if kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is neither true nor false")
        return value
    if kind == "int":
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{value!r} is no integer")
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
