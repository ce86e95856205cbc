"""Damage to archives: bytes of the file, bytes of its JSON, and values that stay JSON."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from torch import Tensor, nn

from dse.workload.torch import read_archive
from tests.workload import fuzzing
from tests.workload.torch_files.reading import GRAPH, WEIGHTS, entries, graph_of, packed


class Net(nn.Module):
    """A little of everything, so that damage meets many readers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2)
        )
        self.cell, self.out = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(self.body(x).transpose(1, 2))[0][:, -1]).softmax(-1)


def nodes(document: Any) -> Any:
    return graph_of(document)["nodes"]


def read(path: Path) -> object:
    return read_archive(path, {})


def compact(data: bytes) -> bytes:
    """Only what is read, without the sums of its bytes, so that damage gets past the archive."""
    found = entries(data)
    kept = {name: content for name, content in found.items() if name.startswith(("models/", "data/weights"))}
    document = json.loads(kept[GRAPH])
    for node in nodes(document):
        node["metadata"].pop("stack_trace", None)
    return packed({**kept, GRAPH: json.dumps(document).encode()})


def damage(data: bytes, seed: int, count: int) -> int:
    """Damage files as a whole, and the graph inside a sound archive; return how many were read."""
    survived = 0
    for broken in fuzzing.mutations(data, seed, count // 4):
        survived += fuzzing.survives(read, broken, ".pt2")
    found = entries(data)
    for path in (GRAPH, WEIGHTS):
        for broken in fuzzing.mutations(found[path], seed, 3 * count // 8):
            survived += fuzzing.survives(read, packed({**found, path: broken}), ".pt2")
    return survived


def swapped(data: bytes, seed: int, count: int) -> int:
    """Exchange values inside the JSON, which keeps it JSON; return how many were read."""
    random, survived, found = Random(seed), 0, entries(data)
    for _ in range(count):
        path = random.choice((GRAPH, GRAPH, WEIGHTS))
        document = json.loads(found[path])
        for _ in range(random.choice((1, 1, 2, 5))):
            exchange(document, random)
        changed = packed({**found, path: json.dumps(document).encode()})
        survived += fuzzing.survives(read, changed, ".pt2")
    return survived


ODD = (None, True, -1, 0, 1, 2**31, 2**62, 2**70, 1e300, "", "x", "relu", [], {}, {"as_int": 3}, [[]], "NaN")


def exchange(document: Any, random: Random) -> None:
    """Put an odd value, or a value from elsewhere, in a random place."""
    places: list[tuple[Any, Any]] = []
    pending = [document]
    while pending:
        holder = pending.pop()
        keys = holder.keys() if isinstance(holder, dict) else range(len(holder))
        places += [(holder, key) for key in keys]
        pending += [holder[key] for key in keys if isinstance(holder[key], dict | list)]
    holder, key = random.choice(places)
    other, place = random.choice(places)
    value = random.choice(ODD) if random.random() < 0.5 else json.loads(json.dumps(other[place]))
    holder[key] = value
