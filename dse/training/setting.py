"""What runs of one process share: data, streams, pretrained networks, and frozen features per cut."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.training.data import load_data
from dse.training.data.base import Dataset
from dse.training.frozen import FrozenStage
from dse.training.network import Parameters
from dse.training.pretrain import pretrained
from dse.training.streams import Stream, make_stream
from dse.training.task import Job, Task
from dse.workload import Workload
from dse.workload.base import shape_text
from dse.workload.forward_only import executed_problems

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Kept = TypeVar("Kept")

CALIBRATION: Final = 256
"""Pretraining samples that the ranges of an 8-bit frozen stage are taken from."""

_KEPT: Final = {"data": 2, "stream": 8, "parameters": 6, "features": 3}
_memory: dict[str, OrderedDict[str, Any]] = {name: OrderedDict() for name in _KEPT}


def _remember(what: str, key: str, make: Callable[[], Kept]) -> Kept:
    """Return what this process made before under ``key``, or make it; the oldest is forgotten."""
    shelf = _memory[what]
    if key in shelf:
        shelf.move_to_end(key)
    else:
        shelf[key] = make()
        if len(shelf) > _KEPT[what]:
            shelf.popitem(last=False)
    found: Kept = shelf[key]
    return found


def dataset_of(task: Task) -> Dataset:
    """Return the data of ``task``, read once per process."""
    key = json.dumps([task.data, task.folder], sort_keys=True, default=str)
    return _remember("data", key, lambda: load_data(task.data, file="task", folder=task.folder or None))


@dataclass(frozen=True)
class Setting:
    """Everything that a run stands on before its plan learns."""

    workload: Workload
    dataset: Dataset
    stream: Stream
    parameters: Parameters
    parameters_key: str
    pretrain_s: float

    @cached_property
    def rows(self) -> IntArray:
        """Samples of the training set that a run may touch, ascending."""
        parts = [
            self.stream.pretrain,
            self.stream.validation,
            *(one.train for one in self.stream.experiences),
        ]
        return np.unique(np.concatenate(parts))

    def at(self, indices: IntArray) -> IntArray:
        """Return where training samples ``indices`` stand in ``rows``."""
        return np.searchsorted(self.rows, indices)

    def frozen(self, cut: int, bits: int) -> FrozenStage:
        """Return the frozen stage up to ``cut``, its ranges taken from pretraining samples."""
        some = self.stream.pretrain[:CALIBRATION]
        return FrozenStage(
            self.workload,
            self.parameters,
            cut,
            bits,
            calibration=self.dataset.values(self.dataset.train.x[some]),
        )

    def features(self, cut: int, bits: int) -> Features:
        """Return the latents of every sample at ``cut``, worked out once per process."""
        key = f"{self.parameters_key}-{cut}-{bits if cut >= 0 else 32}"
        return _remember("features", key, lambda: self._features(cut, bits))

    def _features(self, cut: int, bits: int) -> Features:
        stage = self.frozen(cut, bits)
        train = stage.features(self.dataset.values(self.dataset.train.x[self.rows]))
        test = stage.features(self.dataset.values(self.dataset.test.x[self.stream.test]))
        return Features(stage, train, test)


@dataclass(frozen=True)
class Features:
    """Latents at a cut: of ``Setting.rows`` and of the stream's test samples, float32 (n, *cut shape)."""

    stage: FrozenStage
    train: FloatArray
    test: FloatArray


def setting_of(job: Job) -> Setting:
    """Return what ``job`` stands on. Raises UserError where network and data do not fit each other."""
    dataset = dataset_of(job.task)
    require_fit(job.workload, dataset)
    if job.data_hash and job.data_hash != dataset.content_hash:
        found = f"other data than the run was planned for ({dataset.content_hash[:12]})"
        raise UserError(Problem("task", "task.data", found, job.data_hash[:12]))
    content = [dataset.content_hash, job.task.content(), job.seed]
    key = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    stream = _remember("stream", key, lambda: make_stream(dataset, job.task, job.seed))
    key = f"{key}-{job.workload.training_hash}"
    seconds = 0.0

    def learn() -> Parameters:
        nonlocal seconds
        parameters, seconds = pretrained(job.workload, dataset, stream, job.task, job.seed)
        return parameters

    parameters = _remember("parameters", key, learn)
    return Setting(job.workload, dataset, stream, parameters, key, seconds)


def require_fit(workload: Workload, dataset: Dataset) -> None:
    """Raise UserError, with what to change, unless the network takes the data and tells its classes apart."""
    problems = executed_problems(workload, "training")
    if workload.input_shape != dataset.input_shape:
        found = f"{workload.name} takes {shape_text(workload.input_shape)}"
        allowed = f"samples of {dataset.name} are {shape_text(dataset.input_shape)}: {_variant(dataset)}"
        problems.append(Problem("task", "network", found, allowed))
    if workload.classes != dataset.classes:
        found = f"{workload.name} has {workload.classes} outputs"
        allowed = f"{dataset.name} has {dataset.classes} classes: append classes={dataset.classes}"
        problems.append(Problem("task", "network", found, allowed))
    if problems:
        raise UserError(problems)


def _variant(dataset: Dataset) -> str:
    """Return the variant of a network that takes the data."""
    shape = dataset.input_shape
    if len(shape) == 3:
        size = str(shape[1]) if shape[1] == shape[2] else f"{shape[1]}x{shape[2]}"
        return f"append @resolution={size},channels={shape[0]}"
    if len(shape) == 2:
        return f"append @length={shape[1]},channels={shape[0]}"
    return "take a network with that input"
