"""``import dse`` and ``dse --help`` stay light: what is heavy is imported where it is used."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

HEAVY = {"optuna", "matplotlib", "pandas", "torch"}
HELP = ("-m", "dse.cli", "--help")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    return run


def loaded(*arguments: str) -> set[str]:
    """Top-level packages that Python imports while it runs ``arguments``."""
    log = python("-X", "importtime", *arguments).stderr.splitlines()
    lines = (line for line in log if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_the_list_of_loaded_packages_is_complete() -> None:
    assert {"json", "numpy"} <= loaded("-c", "import json, numpy")


def test_import_dse_is_light() -> None:
    packages = loaded("-c", "import dse")
    assert "dse" in packages
    assert not packages & HEAVY


def test_help_is_light() -> None:
    packages = loaded(*HELP)
    assert "typer" in packages
    assert not packages & HEAVY


@pytest.mark.parametrize("command", ["explore", "estimate", "explain", "sweep", "reproduce", "hw"])
def test_help_shows_the_command(command: str) -> None:
    assert command in python(*HELP).stdout


@pytest.mark.slow
def test_help_takes_less_than_half_a_second_of_cpu() -> None:
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python(*HELP)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < 0.5
