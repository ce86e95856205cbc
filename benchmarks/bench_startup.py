"""What starting costs: ``dse --help`` and ``import dse``, in processor seconds of a fresh process."""

from __future__ import annotations

import resource
import subprocess
import sys

from benchmarks.figures import Figure

REPEATS = 5
HEAVY = ("optuna", "matplotlib", "pandas", "torch")


def measure() -> list[Figure]:
    """Take the least of some runs: what the command needs, not what else the machine does."""
    loaded = f"import dse, sys; print(sum(name in sys.modules for name in {HEAVY}))"
    found = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    return [
        Figure("dse --help", least_cpu_s([sys.executable, "-m", "dse.cli", "--help"]), "s CPU", "<=", 0.5),
        Figure("import dse", least_cpu_s([sys.executable, "-c", "import dse"]), "s CPU"),
        Figure("  heavy packages that it loads", float(found.stdout), "", "<=", 0.0, ", ".join(HEAVY)),
    ]


def least_cpu_s(command: list[str]) -> float:
    """Return the least user and system time of ``command`` [s]."""
    return min(cpu_s(command) for _ in range(REPEATS))


def cpu_s(command: list[str]) -> float:
    """Return user and system time of one run of ``command`` [s]; raises where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
