"""Damage by chance: a model or one clear error within seconds, whatever breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dse.errors import UserError
from tests.workload import fuzzing
from tests.workload.exporters.torch_writer import archive_of, decomposed, exported
from tests.workload.torch_files.damaging import Net, compact, damage, nodes, read, swapped
from tests.workload.torch_files.reading import GRAPH, edited, read_bytes


@pytest.fixture(scope="module")
def good() -> bytes:
    return archive_of(exported(Net(), torch.zeros(1, 3, 8)))


@pytest.fixture(scope="module")
def core() -> bytes:
    return archive_of(decomposed(exported(Net(), torch.zeros(1, 3, 8))))


@pytest.mark.parametrize("cut", [0, 1, 100, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(good: bytes, cut: float) -> None:
    length = cut if isinstance(cut, int) else int(len(good) * cut)
    with pytest.raises(UserError):
        read_bytes(good[:length])


def test_damage_is_answered_with_a_model_or_an_error(good: bytes, core: bytes) -> None:
    assert 0 < damage(compact(good), 1, 80) < 80
    assert 0 < swapped(compact(good), 2, 60) < 60
    assert swapped(compact(core), 3, 20) < 20


def called(target: str, arguments: dict[str, Any], output: str, name: str) -> dict[str, Any]:
    """A node of the graph as torch writes it; strings among the arguments are tensors."""
    given = {
        key: {"as_tensor": {"name": value}} if isinstance(value, str) else {"as_int": value}
        for key, value in arguments.items()
    }
    inputs = [{"name": key, "arg": value, "kind": 1} for key, value in given.items()]
    outputs = [{"as_tensor": {"name": output}}]
    target = f"torch.ops.aten.{target}"
    return {"target": target, "inputs": inputs, "outputs": outputs, "metadata": {}, "name": name}


LONG_GRAPHS: dict[str, Callable[[int], dict[str, Any]]] = {
    "one name, written in place": lambda place: called("relu_.default", {"self": "x"}, f"r{place}", "same"),
    "one reader each": lambda place: called(
        "unsqueeze.default", {"self": "x", "dim": 1}, f"u{place}", "same"
    ),
}


@pytest.mark.parametrize("name", LONG_GRAPHS)
def test_the_longest_graphs_are_read_in_time(good: bytes, name: str) -> None:
    many = [LONG_GRAPHS[name](place) for place in range(19_000)]
    long = edited(compact(good), GRAPH, lambda document: nodes(document).__setitem__(slice(0, 0), many))
    assert fuzzing.survives(read, long, ".pt2")


def test_graphs_beyond_the_bound_are_refused(good: bytes) -> None:
    def grow(document: Any) -> None:
        nodes(document).extend(nodes(document)[:1] * 20_000)

    with pytest.raises(UserError, match="more than 20000"):
        read_bytes(edited(compact(good), GRAPH, grow))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_damage_of_twenty_thousand_kinds(good: bytes, core: bytes, seed: int) -> None:
    assert damage(compact(good if seed % 2 else core), 100 + seed, 1250) >= 0
    assert swapped(compact(core if seed % 2 else good), 200 + seed, 1250) >= 0
