"""Training tests compute with one thread and keep their cache to themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def training_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        torch.set_num_threads(1)
        yield
