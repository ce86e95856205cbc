"""What a run was made from: versions, hashes of the inputs, seed, counts, sources. No clock, no paths."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from dse.report.runs import RUNS, runs_summary
from dse.search.result import SearchResult
from dse.search.space import Space

PACKAGES: Final = ("numpy", "pandas", "pyarrow", "moocore", "matplotlib", "optuna")

FRONT: Final = "front.csv"
READ_BACK: Final = (FRONT, RUNS)


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of what is read back from a run folder besides its inputs, by name of the file."""
    present = (folder / name for name in READ_BACK if (folder / name).is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in present}


def provenance(found: SearchResult, designs: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of run.json.

    ``designs`` says what was written of them; ``files`` holds the hashes of what is read back.
    """
    space = found.space
    return {
        "name": space.name,
        "versions": {
            "dse": version("tinyml-dse"),
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "search": {
            "method": found.method, "complete": found.complete, "seed": found.seed, "trials": found.trials,
            "priced": found.priced, "total": sum(result.counts.total for result in found.boards),
        },
        "inputs": _inputs(space),
        "objectives": list(space.objectives),
        "budgets": [
            {"name": budget.name, "limit": budget.limit, "floor": budget.floor} for budget in space.budgets
        ],
        "duty": vars(space.duty),
        "accounting": space.accounting.name,
        "boards": {result.board: _counts(found, number) for number, result in enumerate(found.boards)},
        "designs": dict(designs),
        "files_sha256": dict(files),
        "sources": _sources(space),
        **({} if found.measurement is None else {"measured": runs_summary(found.measurement)}),
    }  # fmt: skip


def _inputs(space: Space) -> dict[str, Any]:
    networks = dict(zip(space.network_names, space.networks, strict=True))
    numbers = {name: network.weights_sha256 for name, network in networks.items() if network.numbers}
    return {
        "space_sha256": space.content_hash,
        "networks_sha256": {name: network.content_hash for name, network in networks.items()},
        **({"weights_sha256": numbers} if numbers else {}),
        "boards_sha256": {
            board.label: hashlib.sha256(board.model_dump_json().encode()).hexdigest()
            for board in space.boards
        },
    }


def _counts(found: SearchResult, number: int) -> dict[str, Any]:
    result = found.boards[number]
    counts = result.counts
    return {
        "total": counts.total,
        "illegal": counts.illegal,
        "rejected": counts.rejected,
        "accuracy_unknown": counts.unknown,
        "feasible": counts.feasible,
        "dominated": counts.dominated,
        "front": counts.front,
        "variants": counts.variants,
        "hypervolume": result.front.hypervolume,
        "named": {plan.name: plan.design for plan in result.front.named},
        "nothing_fits": None if result.relaxation is None else str(result.relaxation),
    }


def _sources(space: Space) -> dict[str, Any]:
    entries = {key: entry for board in space.boards for key, entry in board.sources().items()}
    return {
        "networks": dict(
            zip(space.network_names, (network.source for network in space.networks), strict=True)
        ),
        "boards": dict(sorted(entries.items())),
        "accuracy": None if space.accuracy is None else space.accuracy.name,
    }
