"""Design-space exploration for on-device continual learning.

Names are loaded when they are first used: ``import dse`` alone imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dse.api import (
        ArenaBuffer,
        Duty,
        Estimate,
        Explanation,
        SearchResult,
        Space,
        Sweep,
        TrainingPlan,
        UpdatePolicy,
        Validation,
        calibrate_board,
        certify,
        certify_point,
        check_offsets,
        compare_boards,
        contribute,
        draw,
        estimate,
        explain,
        explore,
        import_model,
        list_boards,
        list_explorations,
        list_networks,
        list_parts,
        list_studies,
        load_board,
        load_network,
        load_space,
        load_study,
        place_buffers,
        read_runs,
        save_network,
        segments,
        select_scheme,
        study,
        sweep,
        train,
        validate,
        write_certificate,
        write_new_board,
        write_run,
    )

    __version__: str

__all__ = [
    "ArenaBuffer",
    "Duty",
    "Estimate",
    "Explanation",
    "SearchResult",
    "Space",
    "Sweep",
    "TrainingPlan",
    "UpdatePolicy",
    "Validation",
    "__version__",
    "calibrate_board",
    "certify",
    "certify_point",
    "check_offsets",
    "compare_boards",
    "contribute",
    "draw",
    "estimate",
    "explain",
    "explore",
    "import_model",
    "list_boards",
    "list_explorations",
    "list_networks",
    "list_parts",
    "list_studies",
    "load_board",
    "load_network",
    "load_space",
    "load_study",
    "place_buffers",
    "read_runs",
    "save_network",
    "segments",
    "select_scheme",
    "study",
    "sweep",
    "train",
    "validate",
    "write_certificate",
    "write_new_board",
    "write_run",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tinyml-dse")
    if name in __all__:
        from dse import api

        return getattr(api, name)
    raise AttributeError(f"module 'dse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
