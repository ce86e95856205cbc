"""The stream of designs agrees with the search, whatever the chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import dse
from dse.report import designs
from dse.report.designs import DesignWriter, design_chunks, sampled_values
from tests.report.spaces import STUDIED, TINY


@pytest.fixture(params=[TINY, STUDIED], ids=["tiny", "studied"], scope="module")
def found(request: pytest.FixtureRequest) -> Any:
    return dse.explore(request.param)


def frame(found: Any, path: Path, *, everything: bool) -> pd.DataFrame:
    writer = DesignWriter(found.space, path)
    for chunk in design_chunks(found.space, 0, everything=everything):
        writer.add(chunk)
    writer.close()
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_status_counts_are_those_of_the_search(found: Any, tmp_path: Path, ending: str) -> None:
    counts = found.boards[0].counts
    status = frame(found, tmp_path / f"all{ending}", everything=True)["status"].astype(str).value_counts()
    wanted = {"feasible": counts.feasible, "accuracy unknown": counts.unknown, **counts.rejected}
    assert {name: status.get(name, 0) for name in wanted} == wanted
    assert status.sum() == counts.total - sum(counts.illegal.values())


def test_the_front_is_among_the_feasible_designs_with_the_same_prices(found: Any, tmp_path: Path) -> None:
    table = frame(found, tmp_path / "feasible.parquet", everything=False)
    assert set(table["status"]) == {"feasible"}
    front = found.to_frame()
    joined = table.merge(front, on="design", suffixes=("", "_front"))
    assert len(joined) == len(front)
    for name in ("ram_peak_bytes", "event_j", "event_s", "lifetime_s", "wear_years"):
        np.testing.assert_array_equal(joined[name], joined[f"{name}_front"])
    for name in ("head", "replay", "cut", "policy", "micro_batch", "n_replays", "replay_bits", "update"):
        assert (joined[name].astype(str) == joined[f"{name}_front"].astype(str)).all()


def test_the_size_of_a_chunk_changes_nothing(
    found: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = frame(found, tmp_path / "whole.parquet", everything=True)
    monkeypatch.setattr(designs, "CHUNK", 3)
    monkeypatch.setattr(designs, "ROW_GROUP", 5)
    pieces = frame(found, tmp_path / "pieces.parquet", everything=True)
    assert len(whole) > 3
    pd.testing.assert_frame_equal(
        whole.sort_values("design", ignore_index=True), pieces.sort_values("design", ignore_index=True)
    )


def test_designs_for_figures_are_thinned_evenly(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    count = found.boards[0].counts.feasible
    monkeypatch.setattr(designs, "CHUNK", 3)

    def kept(most: int) -> np.ndarray[Any, Any]:
        monkeypatch.setattr(designs, "DRAWN", most)
        chunks = ((0, chunk) for chunk in design_chunks(found.space, 0, everything=False))
        return sampled_values({0: count}, chunks)[0]

    everything, some = kept(10**6), kept(2)
    stride = -(-count // 2)
    assert len(everything) == count
    np.testing.assert_array_equal(some, everything[::stride])
