"""Another unfolding than the library's has memory, but no price."""

from __future__ import annotations

import pytest

import dse
from dse.api.context import context_of
from dse.cost.certificate import certify
from dse.errors import Unpriced
from dse.plan.decisions import TrainingPlan
from dse.vocabulary import Role

PLAN = TrainingPlan(cut=8, n_replays=20, new_per_batch=2, replays_per_batch=2, images_per_event=10)


@pytest.mark.parametrize("im2col", ["none", "full"])
def test_rates_hold_for_the_unfolding_they_were_measured_with(im2col: str) -> None:
    """VEGA's int8 frozen stage unfolds two columns per core; nobody measured it otherwise."""
    with pytest.raises(Unpriced, match="im2col"):
        dse.estimate("ds-cnn", "vega", PLAN, im2col=im2col, intervals=False)


def test_kernels_that_unfold_nothing_keep_their_rates() -> None:
    """Linear layers multiply matrices as they are."""
    plain = dse.estimate("autoencoder", "vega", cut=8, n_replays=20, batch=[2, 2], images_per_event=10)
    none = dse.estimate(
        "autoencoder", "vega", cut=8, n_replays=20, batch=[2, 2], images_per_event=10, im2col="none"
    )
    assert plain.costs.event_s[0] == none.costs.event_s[0]


def test_memory_follows_the_decision() -> None:
    """Full unfolding of ds-cnn's depthwise layers sets the peak; two columns of conv1 do not."""
    context = context_of("ds-cnn", "vega")
    found = [
        certify(context, TrainingPlan(**{**vars(PLAN), "im2col": w})) for w in ("none", "library", "full")
    ]
    scratch = [
        sum(one.size_bytes for one in each.map.schedule.buffers if one.role == Role.WORKSPACE)
        for each in found
    ]
    assert scratch[0] == 0 < scratch[1] < scratch[2]
    assert found[0].ram_arena_bytes == found[1].ram_arena_bytes < found[2].ram_arena_bytes
