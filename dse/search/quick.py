"""A space made from options: one network, boards, budgets, and choices that suit small boards.

Without a task the front has no accuracy, hence what accuracy depends on is fixed, as the spaces for small
boards that come along do: replays, mini-batch, epochs and the layers that learn. With a task accuracy is
measured by training runs, and these decisions vary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dse.workload import Workload

FIXED: Final[Mapping[str, Any]] = {
    "replay": "latent",
    "cut": "last",
    "n_replays": 375,
    "batch": [[21, 107]],
    "images_per_event": 300,
}
"""What accuracy depends on, without a task: that of the spaces for small boards."""

FREE: Final[Mapping[str, Any]] = {
    "replay_bits": [7, 8],
    "micro_batch": [1, 2, 4, 8, 16, 32, 64, "batch"],
    "update": ["accumulate", "immediate", "in_place"],
    "new_samples": ["cache_latent", "cache_raw", "recompute"],
    "first_input": ["stored", "dequantised"],
    "persist_every": [1, 7],
    "operating_point": "all",
}
"""What costs alone depend on; 7 and 8 bits of a replay are taken as equally accurate."""

MEASURED: Final[Mapping[str, Any]] = {
    "head": ["sgd", "ncm", "slda", "cwr", "tinyol"],
    "replay": "latent",
    "n_replays": [50, 150, 500],
    "replay_bits": [4, 8],
    "batch": [[10, 30]],
    "images_per_event": 400,
    "optimiser": "momentum",
    "micro_batch": [1, 8, "batch"],
    "update": ["accumulate", "immediate", "in_place"],
    "new_samples": ["cache_latent", "cache_raw"],
    "operating_point": "all",
}
MOST_CUTS: Final = 5
WITHOUT_LIMIT: Final = (2**63, 2**63)
SEARCHED: Final = ("ram_peak_bytes", "event_j", "event_s")

BUDGETS: Final = {
    "--ram-kib": "ram_peak_kib", "--flash-kib": "nvm_kib", "--event-s": "event_s", "--event-j": "event_j",
    "--battery-days": "lifetime_days",
}  # fmt: skip
"""Option -> the budget of a space file that it gives."""


def fixed_text() -> str:
    """Say what is fixed where accuracy is no axis."""
    new, replayed = FIXED["batch"][0]
    return (
        f"accuracy is no axis, so what it depends on is fixed: the last unit learns, {FIXED['n_replays']} "
        f"latent replays, events of {FIXED['images_per_event']} images, mini-batches of {new} + {replayed}; "
        "--task FILE measures accuracy instead"
    )


def space_tables(
    workload: Workload,
    network: str | Mapping[str, Any],
    name: str,
    boards: Sequence[str],
    *,
    budgets: Mapping[str, float],
    duty: Mapping[str, float],
    accept: Mapping[str, Any],
    task: Mapping[str, Any] | None,
    measure: Mapping[str, Any] | None = None,
    delivered: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return the tables of a space for one network.

    Parameters
    ----------
    workload: the network, which says where it may be cut.
    network: its entry, by name or path.
    name: of the space.
    budgets, duty, accept: tables of a space file under those names.
    task, measure: with a task accuracy is measured by runs; ``measure`` says how.
    delivered: images that every event of the task gets, and samples from before that can fill a buffer.

    """
    tables: dict[str, Any] = {"name": name, "networks": [network], "boards": list(boards)}
    if task is None:
        tables |= {"objectives": list(SEARCHED), "accuracy": "none", "choices": {**FIXED, **FREE}}
    else:
        objectives = ["accuracy", *SEARCHED[:2]]
        choices = {**MEASURED, **_delivered(*(delivered or WITHOUT_LIMIT)), "cut": _cuts(workload)}
        tables |= {"objectives": objectives, "accuracy": "measured", "choices": choices, "task": dict(task)}
        tables |= {"measure": dict(measure)} if measure else {}
    named = {"budgets": dict(budgets), "duty": dict(duty), "accept": dict(accept)}
    return tables | {key: table for key, table in named.items() if table}


def _delivered(images: int, known: int) -> dict[str, Any]:
    """Return the sizes of events and buffers that a task has the samples for; below a mini-batch as it is."""
    new, replayed = MEASURED["batch"][0]
    images, known = max(images, new), max(known, replayed)
    return {
        "images_per_event": min(MEASURED["images_per_event"], images),
        "n_replays": sorted({min(count, known) for count in MEASURED["n_replays"]}),
    }


def _cuts(workload: Workload) -> list[int | str]:
    """Return the last unit and up to four cuts below it, evenly over the upper half of the network."""
    last = len(workload.units) - 1
    upper = [cut for cut in workload.cuts if last // 2 <= cut < last]
    count = min(MOST_CUTS - 1, len(upper))
    chosen = {upper[len(upper) * place // count] for place in range(count)}
    return [*sorted(chosen), "last"]
