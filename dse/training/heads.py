"""Heads over a frozen network, executed: nearest class mean, streaming LDA, CWR* and TinyOL.

Each is started with the features of the pretraining samples, learns one experience per event, and predicts
among the classes seen. Features (n, d) float32 are the vectors that enter the network's last unit. What a
device holds of a head beside the last unit's own weights is its ``state_bytes``.
"""

from __future__ import annotations

from typing import Final

from dse.errors import UnknownName
from dse.training.head_base import Head, HeadOptions
from dse.training.head_descent import CWRStar, TinyOL
from dse.training.head_means import NCM, SLDA

HEADS: Final[dict[str, type[Head]]] = {"ncm": NCM, "slda": SLDA, "cwr": CWRStar, "tinyol": TinyOL}
"""Head of a plan -> what executes it; ``sgd`` is the learning stage itself."""


def make_head(name: str, elements: int, classes: int, options: HeadOptions | None = None) -> Head:
    """Return the head ``name`` over ``elements`` features for ``classes`` classes. Raises UnknownName."""
    if name not in HEADS:
        raise UnknownName("head", name, HEADS, file="plan", key="head")
    return HEADS[name](elements, classes, options)


__all__ = ["HEADS", "NCM", "SLDA", "CWRStar", "Head", "HeadOptions", "TinyOL", "make_head"]
