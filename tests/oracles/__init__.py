"""Slow, obvious recomputations that the vectorised code must agree with; nothing of it is imported."""

from tests.oracles.counts import dominated_mask, naive_replaced, naive_replay_bytes
from tests.oracles.regions import patch_shapes
from tests.oracles.step import NaiveStep
from tests.oracles.trace import Trace

__all__ = ["NaiveStep", "Trace", "dominated_mask", "naive_replaced", "naive_replay_bytes", "patch_shapes"]
