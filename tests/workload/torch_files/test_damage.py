"""Damage by chance: a model or one clear error within seconds, whatever breaks."""

from __future__ import annotations

import pytest
import torch

from dse.errors import UserError
from tests.workload.exporters.torch_writer import archive_of, decomposed, exported
from tests.workload.torch_files.damaging import Net, compact, damage, swapped
from tests.workload.torch_files.reading import read_bytes


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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_damage_of_twenty_thousand_kinds(good: bytes, core: bytes, seed: int) -> None:
    assert damage(compact(good if seed % 2 else core), 100 + seed, 1250) >= 0
    assert swapped(compact(core if seed % 2 else good), 200 + seed, 1250) >= 0
