"""Streams: which samples arrive when, what they are tested on, and what is refused."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.errors import UnknownName, UserError
from dse.training.data.base import Dataset, Split
from dse.training.streams import make_stream
from dse.training.task import STREAMS, Task


def split(labels, domains):
    labels = np.asarray(labels, dtype=np.int64)
    x = np.arange(len(labels), dtype=np.float32)[:, None]
    return Split(x, labels, np.asarray(domains, dtype=np.int64))


def dataset(classes=6, domains=3, each=40, test_each=12, *, test_domains=None, batches=None, name="made"):
    """``each`` training samples of every class in every domain, in a mixed order."""
    grid = np.array([(c, d) for c in range(classes) for d in range(domains)])
    draw = np.random.default_rng(1)
    train = draw.permutation(np.repeat(grid, each, axis=0))
    tested = np.array([(c, d) for c in range(classes) for d in test_domains or range(domains)])
    test = draw.permutation(np.repeat(tested, test_each, axis=0))
    names = tuple(f"c{label}" for label in range(classes))
    return Dataset(name, split(*train.T), split(*test.T), names, "made up", batches=batches)


def uneven(counts, domains=None):
    """A data set with ``counts`` training samples per class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    domains = np.zeros_like(labels) if domains is None else domains
    test = np.repeat(np.arange(len(counts)), 3)
    names = tuple(f"c{label}" for label in range(len(counts)))
    return Dataset("uneven", split(labels, domains), split(test, 0 * test), names, "made up")


def task(**options):
    return Task(**{"first": 2, "step": 2, "pretrain_per_class": 1000, "per_class": 0} | options)


def messages(data, options, seed=0):
    with pytest.raises(UserError) as raised:
        make_stream(data, options, seed)
    return [str(problem) for problem in raised.value.problems]


@given(
    st.sampled_from(STREAMS), st.integers(2, 5), st.integers(1, 3), st.sampled_from((0.0, 0.1, 0.5)),
    st.integers(0, 30), st.sampled_from(("fixed", "shuffled")), st.integers(0, 99),
)  # fmt: skip
def test_parts_are_disjoint_and_within_their_limits(kind, first, step, share, per_class, order, seed):
    data = dataset(domains=6 if kind == "new_instances" else 3)
    options = task(
        stream=kind, first=first, step=step, order=order, validation_share=share,
        pretrain_per_class=17, per_class=per_class,
    )  # fmt: skip
    stream = make_stream(data, options, seed)
    parts = [stream.pretrain, stream.validation, *(one.train for one in stream.experiences)]
    for one, other in combinations(parts, 2):
        assert not set(one.tolist()) & set(other.tolist())
    assert all(len(set(part.tolist())) == len(part) for part in parts)
    assert np.bincount(data.train.y[stream.pretrain]).max() <= 17
    for one in stream.experiences:
        assert len(one.train)
        assert one.classes == tuple(sorted(set(data.train.y[one.train].tolist())))
        assert one.domains == tuple(sorted(set(data.train.domain[one.train].tolist())))
        if per_class:
            assert np.bincount(data.train.y[one.train]).max() <= per_class
    assert set(data.train.y[stream.pretrain].tolist()) == set(stream.pretrain_classes)


@given(st.sampled_from(STREAMS), st.sampled_from(("fixed", "shuffled")), st.integers(0, 20))
def test_without_limits_every_training_sample_is_in_one_part(kind, order, seed):
    data = dataset()
    options = task(stream=kind, order=order, first=2, step=1)
    stream = make_stream(data, options, seed)
    parts = [stream.pretrain, stream.validation, *(one.train for one in stream.experiences)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(data.train)))
    assert stream.test.tolist() == list(range(len(data.test)))
    for which in ("test", "validation"):
        indices, part = stream.evaluation(which)
        assert set(part.tolist()) == set(range(1 + len(stream.experiences)))
        assert len(part) == len(indices)


def test_new_classes_come_in_steps():
    stream = make_stream(dataset(classes=7), task(first=3, step=3), 0)
    assert stream.pretrain_classes == (0, 1, 2)
    assert [one.classes for one in stream.experiences] == [(3, 4, 5), (6,)]
    assert {one.domains for one in stream.experiences} == {(0, 1, 2)}


def test_a_listed_order_leaves_out_what_it_does_not_name():
    data = dataset(classes=7)
    stream = make_stream(data, task(order=(5, 0, 3, 6), first=2, step=1), 0)
    assert stream.pretrain_classes == (0, 5)
    assert [one.classes for one in stream.experiences] == [(3,), (6,)]
    for indices, y in ((stream.test, data.test.y), (stream.validation, data.train.y)):
        assert set(y[indices].tolist()) == {0, 3, 5, 6}


def test_new_instances_bring_domains_with_all_classes():
    stream = make_stream(dataset(domains=5), task(stream="new_instances", first=2, step=2), 0)
    assert stream.pretrain_classes == tuple(range(6))
    assert [one.domains for one in stream.experiences] == [(2, 3), (4,)]
    assert {one.classes for one in stream.experiences} == {tuple(range(6))}


def test_both_brings_one_class_of_one_domain_at_a_time():
    data = dataset(classes=5, domains=4)
    stream = make_stream(data, task(stream="both", first=3, step=1), 0)
    groups = [(one.classes, one.domains) for one in stream.experiences]
    assert all(len(classes) == len(domains) == 1 for classes, domains in groups)
    assert len(set(groups)) == len(groups) == 5 * 4 - 3
    assert stream.pretrain_classes == (0, 1, 2)
    pairs = set(zip(data.train.y[stream.pretrain], data.train.domain[stream.pretrain], strict=True))
    assert len(pairs) == 3
    assert groups != sorted(groups)  # classes come back: no order by class or by domain
    assert groups != sorted(groups, key=lambda group: group[1])


def test_both_puts_step_groups_into_an_experience():
    stream = make_stream(dataset(classes=5, domains=4), task(stream="both", first=2, step=4), 0)
    assert len(stream.experiences) == 5  # 18 groups in fours
    assert all(len(one.train) == 4 * 34 for one in stream.experiences[:-1])
    assert len(stream.experiences[-1].train) == 2 * 34


def test_published_batches_are_followed():
    batches = np.tile([0, 0, 0, 1, 2, 3, 4, 0], 90).astype(np.int64)
    data = dataset(batches=batches)
    stream = make_stream(data, task(stream="both", step=2, validation_share=0.0), 0)
    assert sorted(stream.pretrain) == np.flatnonzero(batches == 0).tolist()
    wanted = [np.flatnonzero(np.isin(batches, pair)).tolist() for pair in ((1, 2), (3, 4))]
    assert [sorted(one.train.tolist()) for one in stream.experiences] == wanted


def test_evaluation_parts_of_new_classes_are_those_of_the_class():
    data = dataset()
    stream = make_stream(data, task(order=(3, 1, 0, 5, 2, 4), first=2, step=1), 0)
    brought = {3: 0, 1: 0, 0: 1, 5: 2, 2: 3, 4: 4}
    for which, y in (("test", data.test.y), ("validation", data.train.y)):
        indices, part = stream.evaluation(which)
        assert part.tolist() == [brought[label] for label in y[indices]]


def test_evaluation_parts_of_new_instances_are_those_of_the_domain():
    data = dataset(domains=4, test_domains=(1, 3, 9))
    stream = make_stream(data, task(stream="new_instances", first=2, step=1), 0)
    brought = {0: 0, 1: 0, 2: 1, 3: 2, 9: -1}
    indices, part = stream.evaluation("test")
    assert part.tolist() == [brought[domain] for domain in data.test.domain[indices]]
    indices, part = stream.evaluation("validation")
    assert part.tolist() == [brought[domain] for domain in data.train.domain[indices]]


def test_evaluation_parts_of_both_fall_back_to_the_class():
    data = dataset(classes=3, domains=2, test_domains=(0, 7))
    stream = make_stream(data, task(stream="both", first=2, step=1), 0)
    first, group = {}, {}
    learned = [(stream.pretrain, 0)] + [(one.train, i) for i, one in enumerate(stream.experiences, 1)]
    for indices, number in learned:
        for index in indices:
            label, domain = int(data.train.y[index]), int(data.train.domain[index])
            first.setdefault(label, number)
            group.setdefault((label, domain), number)
    indices, part = stream.evaluation("test")
    pairs = zip(data.test.y[indices].tolist(), data.test.domain[indices].tolist(), strict=True)
    assert part.tolist() == [group.get(pair, first[pair[0]]) for pair in pairs]
    assert len(set(part[data.test.domain[indices] == 0].tolist())) > 1  # by group, not by class alone


@pytest.mark.parametrize("kind", STREAMS)
def test_evaluation_samples_are_the_same_for_every_seed_and_training_samples_are_not(kind):
    data = dataset()
    options = task(stream=kind, order="shuffled", per_class=5, pretrain_per_class=9, test_per_class=7)
    one, again, other = (make_stream(data, options, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.validation, other.validation)
    np.testing.assert_array_equal(one.test, other.test)
    np.testing.assert_array_equal(one.pretrain, again.pretrain)
    assert one.pretrain.tolist() != other.pretrain.tolist()
    for mine, same in zip(one.experiences, again.experiences, strict=True):
        np.testing.assert_array_equal(mine.train, same.train)
    assert any(
        mine.train.tolist() != theirs.train.tolist()
        for mine, theirs in zip(one.experiences, other.experiences, strict=True)
    )


def test_a_fixed_order_is_fixed_and_a_shuffled_one_follows_the_seed():
    data = dataset(classes=9)
    classes = {
        order: [
            [one.classes for one in make_stream(data, task(order=order, step=1), seed).experiences]
            for seed in range(4)
        ]
        for order in ("fixed", "shuffled")
    }
    assert all(each == [(label,) for label in range(2, 9)] for each in classes["fixed"])
    assert len({tuple(each) for each in classes["shuffled"]}) == 4
    groups = [
        [(one.classes, one.domains) for one in make_stream(data, task(stream="both"), seed).experiences]
        for seed in range(2)
    ]
    assert groups[0] == groups[1]


def test_validation_takes_its_share_of_every_class_and_domain():
    data = dataset(each=40)
    stream = make_stream(data, task(validation_share=0.15), 0)
    for label in range(6):
        for domain in range(3):
            here = (data.train.y == label) & (data.train.domain == domain)
            assert here[stream.validation].sum() == 6  # 15 % of 40


@given(st.floats(0.01, 0.5), st.integers(2, 30), st.integers(0, 9))
def test_validation_of_small_classes(share, count, seed):
    stream = make_stream(uneven([count] * 4), task(validation_share=share), seed)
    wanted = max(1, round(share * count))
    assert np.bincount(np.repeat(np.arange(4), count)[stream.validation]).tolist() == [wanted] * 4


def test_evaluation_samples_are_limited_per_class_and_spread_over_domains():
    data = dataset()
    stream = make_stream(data, task(test_per_class=6), 0)
    for indices, part in ((stream.test, data.test), (stream.validation, data.train)):
        assert np.bincount(part.y[indices]).tolist() == [6] * 6
        pairs = np.bincount(3 * part.y[indices] + part.domain[indices], minlength=18)
        assert pairs.tolist() == [2] * 18


def test_arrival_is_a_random_order():
    data = dataset()
    stream = make_stream(data, task(), 0)
    for indices in (stream.pretrain, stream.experiences[0].train):
        labels = data.train.y[indices]
        assert (np.diff(labels) != 0).mean() > 0.3  # half of the neighbours differ in a random order
        assert sorted(indices) != indices.tolist()


@pytest.mark.parametrize("limit", ["per_class", "pretrain_per_class"])
def test_every_sample_has_the_same_chance_to_be_taken(limit):
    data = uneven([8] * 4)
    options = task(validation_share=0.0, **{limit: 2})
    counts = np.zeros(32)
    for seed in range(800):
        stream = make_stream(data, options, seed)
        counts[stream.pretrain if limit == "pretrain_per_class" else stream.experiences[0].train] += 1
    inside = counts[:16] if limit == "pretrain_per_class" else counts[16:]
    assert np.abs(inside / 800 - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 800)


def test_imbalance_is_refused_with_the_limit_that_mends_it():
    data = uneven([200, 20, 200, 20])
    options = task(validation_share=0.0)
    assert messages(data, options) == [
        "task: task.pretrain_per_class: pretraining of uneven: 200 samples of class c0, 20 of class c1; "
        "pretrain_per_class up to 180"
    ]
    assert messages(data, task(validation_share=0.0, pretrain_per_class=180, per_class=190)) == [
        "task: task.per_class: experience 1 of uneven: 190 samples of class c2, 20 of class c3; "
        "per_class up to 180, or 0 to take what there is"
    ]
    for per_class in (180, 0):
        mended = task(validation_share=0.0, pretrain_per_class=180, per_class=per_class)
        assert len(make_stream(data, mended, 0).experiences) == 1


def test_problems_are_reported_together():
    data = uneven([200, 20, 200, 20])
    assert len(messages(data, task(validation_share=0.0, per_class=500))) == 2


def test_a_single_training_sample_is_refused():
    assert messages(uneven([9, 9, 1, 9]), task()) == [
        "task: task.data: class 2 (c2) of uneven has 1 training sample; 2 or more: one to learn from, "
        "one to choose by; or leave it out of task.order"
    ]


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"first": 6}, "task.first: 6 of 6 classes to pretrain on; nothing is left to learn; 2 to 5"),
        ({"first": 1}, "task.first: 1 of 6 classes to pretrain on; one class alone teaches nothing; 2 to 5"),
        ({"order": (0, 1)}, "nothing is left to learn; 3 classes or more in task.order"),
        ({"order": (0, 1, 8)}, "task.order: classes 8, of which there are no training samples; classes 0, 1"),
        ({"stream": "both", "first": 7}, "7 of 6 classes to pretrain on"),
        ({"stream": "new_instances", "first": 3}, "3 of 3 domains to pretrain on"),
        ({"stream": "new_instances", "order": (2,), "first": 1}, "2 domains or more in task.order"),
    ],
)
def test_nothing_left_to_learn_is_refused(options, fragment):
    assert fragment in "\n".join(messages(dataset(), task(**options)))


def test_both_may_pretrain_on_all_classes_where_domains_are_left():
    stream = make_stream(dataset(), task(stream="both", first=6, step=3), 0)
    assert len(stream.experiences) == 4
    assert "6 of 6 classes" in messages(dataset(domains=1), task(stream="both", first=6))[0]


def test_new_instances_need_domains_and_all_classes_at_the_start():
    assert (
        "has one domain; new_classes, or data with domains"
        in messages(dataset(domains=1), task(stream="new_instances"))[0]
    )
    missing = uneven([60] * 3, domains=np.repeat([0, 0, 1], 60) + np.tile([0, 1], 90))
    found = messages(missing, task(stream="new_instances", first=1, step=1))
    assert found == [
        "task: task.first: pretraining has no samples of classes 2; more domains (task.first), another "
        "task.order, or the stream both"
    ]


def test_batches_that_leave_nothing_to_learn_are_refused():
    batches = np.zeros(720, dtype=np.int64)
    assert "6 classes in batch 0, last batch 0" in messages(dataset(batches=batches), task(stream="both"))[0]


def test_an_experience_that_validation_empties_is_refused():
    domains = np.repeat([0, 1, 0, 1], [30, 1, 30, 1])
    data = uneven([31, 31], domains=domains)
    found = messages(data, task(stream="new_instances", first=1, step=1, validation_share=0.5))
    assert found == [
        "task: task.data: experience 1 has no samples; leave its classes or domains out of task.order, or a "
        "smaller task.validation_share"
    ]


def test_evaluation_by_an_unknown_or_empty_split_is_refused():
    stream = make_stream(dataset(), task(validation_share=0.0), 0)
    with pytest.raises(UnknownName, match="did you mean 'test'"):
        stream.evaluation("tests")
    with pytest.raises(UserError, match=r"task.validation_share: 0: nothing to choose by; above 0"):
        stream.evaluation("validation")
