"""Run all benchmarks, or those named on the command line, each in a process of its own.

``python -m benchmarks [exact|study|measured|finetune|selection|arena|certificate|startup|import ...]`` prints
one table; exit code 1: a target is missed.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks import (
    bench_arena,
    bench_certificate,
    bench_exact,
    bench_finetune,
    bench_import,
    bench_measured,
    bench_selection,
    bench_startup,
    bench_study,
    bench_zoo_arenas,
)
from benchmarks.figures import table

BENCHES = {
    "exact": (bench_exact.small, bench_exact.step_heavy, bench_exact.large),
    "study": (bench_study.measure,),
    "measured": (bench_measured.fashion, bench_measured.activity, bench_measured.digits),
    "finetune": (bench_finetune.measure,),
    "selection": (bench_selection.measure,),
    "arena": (bench_arena.heuristic, bench_arena.public, bench_zoo_arenas.zoo),
    "certificate": (bench_certificate.zoo, bench_certificate.execution),
    "startup": (bench_startup.measure,),
    "import": (bench_import.measure,),
}


def main(names: list[str]) -> int:
    """Run the benches ``names`` (all where empty), print the table and return the exit code."""
    unknown = set(names) - BENCHES.keys()
    if unknown:
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}; allowed: {', '.join(BENCHES)}\n")
        return 2
    figures = []
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in names or BENCHES:
            for bench in BENCHES[name]:
                figures += pool.submit(bench).result()
    sys.stdout.write(table(figures) + "\n")
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
