"""The network before it meets the stream: trained on the first classes, kept by content hash.

A network that comes with numbers of its own (an imported model) starts there, else it is drawn.

Parameters are cached as .npz under the hash of network, data, samples, options and seed, so that every plan
of a validation starts from the same network, and only the first one waits for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dse.training.cache import cache_folder
from dse.training.data.base import Dataset
from dse.training.network import Parameters, build_module, device, tensor_of
from dse.training.parameters import parameter_shapes, starting_parameters
from dse.training.streams import Stream
from dse.training.task import Task
from dse.workload import Workload

VERSION: Final = 1
"""Raise it when pretraining computes something else from the same inputs."""

IntArray = NDArray[np.int64]


def pretrain_key(workload: Workload, dataset: Dataset, stream: Stream, task: Task, seed: int) -> str:
    """Return the content hash of a pretraining."""
    content = {
        "version": VERSION, "torch": torch.__version__, "network": workload.training_hash,
        "data": dataset.content_hash, "samples": hashlib.sha256(stream.pretrain.tobytes()).hexdigest(),
        "classes": stream.pretrain_classes, "epochs": task.pretrain_epochs, "rate": task.pretrain_rate,
        "batch": task.pretrain_batch, "seed": seed,
        "threads": torch.get_num_threads(), "device": device().type,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=int).encode()).hexdigest()[:32]


def pretrained(
    workload: Workload, dataset: Dataset, stream: Stream, task: Task, seed: int
) -> tuple[Parameters, float]:
    """Return the pretrained parameters, and the processor seconds spent on them (0: they were cached)."""
    path = cache_folder("pretrained") / f"{pretrain_key(workload, dataset, stream, task, seed)}.npz"
    found = _read(path, parameter_shapes(workload))
    if found is not None:
        return found, 0.0
    began = time.process_time()
    x, y = dataset.values(dataset.train.x[stream.pretrain]), dataset.train.y[stream.pretrain]
    parameters = train_from_scratch(workload, x, y, stream.pretrain_classes, task, seed)
    _write(path, parameters)
    return parameters, time.process_time() - began


def train_from_scratch(
    workload: Workload, x: NDArray[np.float32], y: IntArray, classes: tuple[int, ...], task: Task, seed: int
) -> Parameters:
    """Train all of a network by SGD with momentum 0.9, the rate falling linearly to 0, on ``classes`` alone.

    ``x`` (n, C, ...) are network inputs, ``y`` (n,) labels. The loss is taken over ``classes``, as later over
    the classes seen; outputs of others stay as they were drawn. A network with numbers of its own starts from
    them; without epochs they stay as they are.
    """
    module = build_module(workload, starting_parameters(workload, seed), bn_mode="batch_stats")
    order = np.random.default_rng([seed, 11])
    batch = min(task.pretrain_batch, len(x))
    steps = task.pretrain_epochs * (len(x) // batch)
    optimiser = torch.optim.SGD(module.parameters(), lr=task.pretrain_rate, momentum=0.9)
    falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / max(steps, 1))
    seen = torch.tensor(sorted(classes), device=device())
    place = np.full(int(y.max()) + 1, -1)
    place[sorted(classes)] = np.arange(len(classes))
    module.train()
    for _ in range(task.pretrain_epochs):
        shuffled = order.permutation(len(x))
        for first in range(0, len(x) - batch + 1, batch):
            rows = shuffled[first : first + batch]
            optimiser.zero_grad(set_to_none=True)
            logits = module(tensor_of(x[rows]))[:, seen]
            loss: Any = nn.functional.cross_entropy(logits, torch.from_numpy(place[y[rows]]).to(device()))
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 5.0)
            optimiser.step()
            falling.step()
    result: Parameters = module.parameters_out()
    return result


def _read(path: Path, shapes: dict[str, tuple[int, ...]]) -> Parameters | None:
    """Return cached parameters; None where there are none, or what is there is not what it should be."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = found.keys() == shapes.keys() and all(found[name].shape == shapes[name] for name in shapes)
    return found if fits else None


def _write(path: Path, parameters: Parameters) -> None:
    """Write atomically: another process may want the same."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.npz")
    try:
        np.savez(partial, **parameters)  # type: ignore[arg-type]
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
