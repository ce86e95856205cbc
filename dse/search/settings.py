"""How to search, and how to measure: the tables ``search`` and ``measure`` of a space file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dse.search.reader import Reader

METHODS: Final = ("auto", "exact", "nsga2", "tpe", "random")
PROPOSALS: Final = ("hypervolume", "random", "nsga2")
MOST_TRIALS: Final = 10_000_000
LARGEST_SEED: Final = 2**32 - 1
MOST_RUNS: Final = 100_000
MOST_SEEDS: Final = 100
LARGEST_ROUND: Final = 1024


@dataclass(frozen=True)
class SearchSettings:
    """How to search: ``auto`` is exact up to ``exact_limit`` designs, NSGA-II beyond; ``chunk`` 0: chosen."""

    method: str = "auto"
    trials: int = 1000
    seed: int = 0
    chunk: int = 0
    exact_limit: int = 50_000_000


@dataclass(frozen=True)
class MeasureSettings:
    """How to spend training runs where accuracy is measured.

    ``runs`` of them in all; every point of the front is to have ``seeds`` of them. ``proposals`` says who
    chooses what is run next, ``batch`` how many runs are chosen at once (the result depends on it, but not on
    the number of processes that train).
    """

    runs: int = 60
    seeds: int = 3
    proposals: str = "hypervolume"
    batch: int = 4
    seed: int = 0


def read_search(reader: Reader, table: Mapping[str, Any]) -> SearchSettings:
    """Read the table ``search``."""
    default = SearchSettings()
    reader.known_keys(table, tuple(vars(default)), "search")
    return SearchSettings(
        method=reader.word(table, "method", "search", default.method, METHODS),
        trials=reader.integer(table, "trials", "search", default.trials, 1, MOST_TRIALS),
        seed=reader.integer(table, "seed", "search", default.seed, 0, LARGEST_SEED),
        chunk=reader.integer(table, "chunk", "search", default.chunk, 0),
        exact_limit=reader.integer(table, "exact_limit", "search", default.exact_limit, 1, 10**12),
    )


def read_measure(reader: Reader, table: Mapping[str, Any]) -> MeasureSettings:
    """Read the table ``measure``."""
    default = MeasureSettings()
    reader.known_keys(table, tuple(vars(default)), "measure")
    return MeasureSettings(
        runs=reader.integer(table, "runs", "measure", default.runs, 1, MOST_RUNS),
        seeds=reader.integer(table, "seeds", "measure", default.seeds, 1, MOST_SEEDS),
        proposals=reader.word(table, "proposals", "measure", default.proposals, PROPOSALS),
        batch=reader.integer(table, "batch", "measure", default.batch, 1, LARGEST_ROUND),
        seed=reader.integer(table, "seed", "measure", default.seed, 0, LARGEST_SEED),
    )
