"""Validation by whole groups: nothing is shared with what is learned; without groups all is as it was."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.training.data import load_data
from dse.training.data.groups import whole_groups
from dse.training.streams import make_stream
from dse.training.task import STREAMS
from tests.training.test_streams import dataset, messages, task, uneven


def every_nth(data, share, limit):
    """Validation of data without groups, class by class: the middles of ``count`` equal pieces of the class.

    The class is sorted by domain, at random within one, by a generator that the data set's name starts.
    """
    digest = hashlib.sha256(f"{data.name} validation".encode()).digest()
    draw, taken = np.random.default_rng(int.from_bytes(digest[:8], "little")), []
    for label in range(data.classes):
        members = [index for index, one in enumerate(data.train.y.tolist()) if one == label]
        rank = draw.permutation(len(members)).tolist()
        ordered = sorted(zip(data.train.domain[members].tolist(), rank, members, strict=True))
        count = max(1, round(share * len(members)))
        count = min(count, limit) if limit else count
        taken += [ordered[(2 * k + 1) * len(ordered) // (2 * count)][2] for k in range(count)]
    return sorted(taken)


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("limit", [0, 30])
def test_without_groups_validation_is_as_it_always_was(kind, limit):
    data = load_data("shapes")
    assert data.train.group is None
    stream = make_stream(data, task(stream=kind, order="shuffled", test_per_class=limit, step=1), 3)
    assert stream.validation.tolist() == every_nth(data, 0.15, limit)
    if not limit:
        learned = [stream.pretrain, *(one.train for one in stream.experiences)]
        assert sum(map(len, learned)) + len(stream.validation) == len(data.train)


def grouped(data, size):
    """Groups of about ``size`` samples that share classes and domains at random."""
    count = len(data.train) // size
    group = np.random.default_rng(5).integers(0, count, len(data.train))
    return replace(data, train=replace(data.train, group=group))


@given(
    st.sampled_from(STREAMS), st.sampled_from((0.05, 0.15, 0.4)), st.sampled_from((0, 5)), st.integers(0, 20),
    st.sampled_from((1, 5, 20)),
)  # fmt: skip
def test_no_group_is_both_learned_and_chosen_by(kind, share, limit, seed, size):
    data = grouped(dataset(), size)
    options = task(stream=kind, validation_share=share, test_per_class=limit, order="shuffled", step=1)
    stream, other = make_stream(data, options, seed), make_stream(data, options, seed + 1)
    np.testing.assert_array_equal(stream.validation, other.validation)
    learned = np.concatenate([stream.pretrain, *(one.train for one in stream.experiences)])
    group = data.train.group
    assert not set(group[stream.validation].tolist()) & set(group[learned].tolist())
    assert (
        set(data.train.y[stream.validation].tolist()) == set(data.train.y[learned].tolist()) == set(range(6))
    )
    if limit:
        assert np.bincount(data.train.y[stream.validation]).max() <= limit
        return
    assert len(learned) + len(stream.validation) == len(data.train), "nothing else is dropped"
    shares = np.bincount(data.train.y[stream.validation]) / 120
    assert shares == pytest.approx(share, abs=0.15)  # whole groups of up to some 30 samples
    assert shares.mean() == pytest.approx(share, abs=0.06)


def test_a_class_of_one_group_is_refused():
    data = uneven([12, 12, 12, 12])
    group = np.arange(48) // 4
    group[24:36] = 99  # class 2
    data = replace(data, train=replace(data.train, group=group))
    assert messages(data, task()) == [
        "task: task.validation_share: class 2 (c2) of experience 1 has nothing left to choose by: its 12 "
        "samples are of 1 groups; more groups (windows: executions) of it, other parts, or 0 for no "
        "validation samples"
    ]
    stream = make_stream(data, task(validation_share=0.0), 0)
    assert len(stream.pretrain) + len(stream.experiences[0].train) == 48


def test_whole_groups_by_hand():
    group = np.array([7, 7, 7, 7, 3, 3, 5, 5, 5])
    stratum = np.array([0, 0, 0, 1, 0, 1, 0, 0, 0])
    draw = np.random.default_rng(0)
    # Group 3 alone brings both strata near a quarter: 1 of 7 and 1 of 2. A second one would leave no stratum
    # 1 to learn from (group 7), or take more than is asked for (group 5: 4 of 7 where 1.75 are wanted).
    assert np.flatnonzero(whole_groups(group, stratum, np.full(9, 0.25), draw)).tolist() == [4, 5]
