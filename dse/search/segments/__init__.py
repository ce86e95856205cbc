"""Where to split the learning stage into checkpoint segments: the least work for a memory, exactly.

Of every segment but the last only the input is kept in the forward pass; the rest is worked out again right
before the segment's backward pass (``dse.plan.structure``). The trade is that of Chen et al., "Training Deep
Nets with Sublinear Memory Cost" (arXiv 1604.06174), who split a chain of n layers into about sqrt(n) parts;
Feng and Huang, "Optimal Gradient Checkpoint Search for Arbitrary Computation Graphs" (arXiv 1808.00079), find
the checkpoints of least memory; POET (arXiv 2207.07697) decides by integer programming, for least energy,
whether a tensor is kept, computed again or paged out. Here splits are places where a single tensor crosses,
each segment runs again at most once, and what is found is every best compromise of peak and work.
"""

from __future__ import annotations

from dse.search.segments.exact import Found, front, least_work
from dse.search.segments.parts import Parts, parts_of
from dse.search.segments.result import Segments, Split, find_segments

__all__ = [
    "Found", "Parts", "Segments", "Split", "find_segments", "front", "least_work", "parts_of",
]  # fmt: skip
