"""Networks of single experiments that are reproduced; they are not offered as networks to explore."""

from __future__ import annotations

from importlib.resources import as_file, files

from dse.workload import Workload, load_network


def experiment_network(name: str) -> Workload:
    """Return the network of the experiment ``name``."""
    with as_file(files("dse.reproduce.networks") / f"{name}.toml") as path:
        return load_network(path)
