"""Heads against batch formulas and against naive loops over samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dse.errors import UnknownName, UserError
from dse.plan.decisions import HEADS as PLAN_HEADS
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.step import training_step
from dse.training.heads import HEADS, NCM, SLDA, CWRStar, HeadOptions, TinyOL, make_head
from dse.vocabulary import Role
from dse.workload import load_network

D, C = 6, 5


def clusters(count, classes, seed=0, spread=1.0):
    """Features around one centre per class, positive like those behind a ReLU."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(7).uniform(0, 6, (C, D))
    labels = draw.permutation(np.resize(np.array(classes), count))
    mixing = np.eye(D) + 0.5 * np.random.default_rng(8).normal(size=(D, D))
    x = centres[labels] + spread * draw.normal(size=(count, D)) @ mixing
    return np.maximum(x, 0).astype(np.float32), labels.astype(np.int64)


EVENTS = [clusters(90, (0, 1, 2), 1), clusters(40, (3,), 2), clusters(61, (1, 4), 3)]


def trained(head, events=EVENTS, **weights):
    head.start(*events[0], **weights)
    for number, event in enumerate(events[1:], 1):
        head.event(*event, number)
    return head


def everything(events=EVENTS):
    return np.concatenate([x for x, _ in events]), np.concatenate([y for _, y in events])


@pytest.mark.parametrize("cls", [NCM, SLDA])
def test_means_and_counts_are_those_of_all_samples(cls):
    head = trained(cls(D, C))
    x, y = everything()
    for label in range(C):
        np.testing.assert_allclose(head.means[label], x[y == label].mean(axis=0), rtol=1e-5)
    assert head.counts.tolist() == np.bincount(y).tolist()


def test_ncm_takes_the_nearest_mean():
    head = trained(NCM(D, C))
    x, _ = clusters(200, range(C), 9, spread=3.0)
    distance = ((x[:, None, :].astype(float) - head.means[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(head.predict(x, range(C)), distance.argmin(axis=1))
    some = np.array([1, 4])
    np.testing.assert_array_equal(head.predict(x, (4, 1)), some[distance[:, some].argmin(axis=1)])


def test_ncm_by_hand():
    head = NCM(2, 3)
    head.start(np.array([[0, 0], [0, 2], [4, 0]], np.float32), np.array([0, 0, 2]))
    assert head.means.tolist() == [[0, 1], [0, 0], [4, 0]]
    head.event(np.array([[0, 4]], np.float32), np.array([0]), 1)
    assert head.means[0].tolist() == [0, 2]
    # Class 1 has no sample yet: its mean of zeros must not win, near as it is.
    assert head.predict(np.array([[0.1, 0.1], [3, 0]], np.float32), (0, 1, 2)).tolist() == [0, 2]


def batch_lda(x, y):
    """Weights and biases of linear discriminant analysis with the covariance pooled over all samples."""
    x = x.astype(float)
    means = np.array([x[y == label].mean(axis=0) for label in range(C)])
    apart = x - means[y]
    precision = np.linalg.inv((1 - 1e-4) * apart.T @ apart / len(x) + 1e-4 * np.eye(D))
    weight = means @ precision
    return weight, -0.5 * (weight * means).sum(axis=1), apart.T @ apart / len(x)


def test_streaming_lda_is_batch_lda_on_all_samples():
    head = trained(SLDA(D, C))
    weight, bias, covariance = batch_lda(*everything())
    np.testing.assert_allclose(head.covariance, covariance, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.weight, weight, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(head.bias, bias, rtol=1e-3, atol=1e-3)
    x, y = clusters(300, range(C), 9)
    np.testing.assert_array_equal(head.predict(x, range(C)), (x @ weight.T + bias).argmax(axis=1))
    assert (head.predict(x, range(C)) == y).mean() > (trained(NCM(D, C)).predict(x, range(C)) == y).mean()


def test_streaming_lda_sees_the_same_whatever_the_events():
    x, y = everything()
    singles = trained(SLDA(D, C), [(x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    np.testing.assert_allclose(singles.covariance, trained(SLDA(D, C)).covariance, rtol=2e-3, atol=2e-3)


def recursion(weigh):
    """S <- (t S + w d d^T) / (t + 1), with w = ``weigh(t, c)`` for t samples seen, c of the class."""
    covariance, means, counts = np.zeros((D, D)), np.zeros((C, D)), np.zeros(C, dtype=int)
    for t, (value, label) in enumerate(zip(*everything(), strict=True)):
        apart = value - means[label]
        covariance = (t * covariance + weigh(t, counts[label]) * np.outer(apart, apart)) / (t + 1)
        counts[label] += 1
        means[label] += apart / counts[label]
    return covariance


def test_streaming_lda_weighs_a_sample_by_the_count_of_its_class():
    covariance = trained(SLDA(D, C)).covariance
    np.testing.assert_allclose(covariance, recursion(lambda t, c: c / (c + 1)), rtol=1e-3, atol=1e-4)
    # The published weight t / (t + 1) counts the first sample of a class as a deviation from zero.
    published = recursion(lambda t, c: t / (t + 1))
    without_first = recursion(lambda t, c: t / (t + 1) if c else 0.0)
    assert np.trace(published) > 1.1 * np.trace(covariance)
    assert np.trace(without_first) == pytest.approx(np.trace(covariance), rel=0.1)


def naive_descent(weight, bias, x, y, classes, batches, options):
    """Softmax regression over ``classes``, one sample and one class at a time, in double precision."""
    speed_w, speed_b = np.zeros_like(weight), np.zeros_like(bias)
    for step, rows in enumerate(batches):
        grad_w, grad_b = np.zeros_like(weight), np.zeros_like(bias)
        for row in rows:
            raised = {c: math.exp(float(weight[c] @ x[row] + bias[c])) for c in classes}
            for c in classes:
                error = raised[c] / sum(raised.values()) - (c == y[row])
                grad_w[c] += error * x[row] / len(rows)
                grad_b[c] += error / len(rows)
        rate = options.rate * (1 - step / len(batches) if options.schedule == "linear" else 1)
        speed_w, speed_b = options.momentum * speed_w + grad_w, options.momentum * speed_b + grad_b
        weight, bias = weight - rate * speed_w, bias - rate * speed_b
    return weight, bias


@pytest.mark.parametrize("options", [HeadOptions(0.02), HeadOptions(0.01, 0.5, schedule="constant", seed=3)])
def test_tinyol_is_a_loop_over_single_samples(options):
    weight = np.random.default_rng(4).normal(size=(C, D)).astype(np.float32)
    bias = np.linspace(-1, 1, C).astype(np.float32)
    head = trained(TinyOL(D, C, options), weight=weight, bias=bias)
    w, b, seen = weight.astype(float), bias.astype(float), {0, 1, 2}
    for number, (x, y) in enumerate(EVENTS[1:], 1):
        seen |= set(y.tolist())
        order = np.random.default_rng([options.seed, 71, number]).permutation(len(y))
        w, b = naive_descent(w, b, x.astype(float), y, sorted(seen), order[:, None], options)
    np.testing.assert_allclose(head.weight, w, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(head.bias, b, rtol=1e-3, atol=1e-4)
    x, _ = clusters(50, range(C), 9)
    np.testing.assert_array_equal(head.predict(x, range(C)), (x @ w.T + b).argmax(axis=1))


def test_tinyol_by_hand():
    head = TinyOL(1, 3, HeadOptions(rate=0.5, schedule="constant"))
    head.start(np.ones((2, 1), np.float32), np.array([0, 1]), weight=np.zeros((3, 1)), bias=np.zeros(3))
    assert not head.weight.any()  # the pretrained unit is taken over as it is
    head.event(np.array([[2]], np.float32), np.array([1]), 1)
    # Probabilities 1/2, 1/2 over the classes seen; the third class is not seen and stays.
    np.testing.assert_allclose(head.weight[:, 0], [-0.5, 0.5, 0])
    np.testing.assert_allclose(head.bias, [-0.25, 0.25, 0])


def naive_cwr(options, weight=None, bias=None):
    """CWR* as in the paper, class by class; returns the consolidated weights and biases."""
    cw, cb, past, seen = np.zeros((C, D)), np.zeros(C), np.zeros(C), set()
    for number, (x, y) in enumerate(EVENTS):
        here = sorted(set(y.tolist()))
        seen |= set(here)
        tw, tb = np.zeros((C, D)), np.zeros(C)
        for c in here:
            tw[c], tb[c] = cw[c], cb[c]
        if number == 0 and weight is not None:
            tw, tb = weight.astype(float), bias.astype(float)
        else:
            draw = np.random.default_rng([options.seed, 73, number])
            batches = []
            for _ in range(options.epochs):
                order = draw.permutation(len(y))
                size = options.new_per_batch
                batches += [order[size * k : size * (k + 1)] for k in range(len(y) // size)]
            tw, tb = naive_descent(tw, tb, x.astype(float), y, sorted(seen), batches, options)
        mean_w, mean_b = tw[here].mean(), tb[here].mean()
        for c in here:
            current = int((y == c).sum())
            before = math.sqrt(past[c] / current)
            cw[c] = (cw[c] * before + tw[c] - mean_w) / (before + 1)
            cb[c] = (cb[c] * before + tb[c] - mean_b) / (before + 1)
            past[c] += current
    return cw, cb, past


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize(
    "options", [HeadOptions(0.03, 0.0, 2, 16), HeadOptions(0.01, 0.9, 3, 7, "constant", 5)]
)
def test_cwr_is_the_published_algorithm(options, pretrained):
    weights = {}
    if pretrained:
        draw = np.random.default_rng(4)
        weights = {"weight": draw.normal(size=(C, D)).astype(np.float32), "bias": np.arange(C) / 4.0}
    head = trained(CWRStar(D, C, options), **weights)
    cw, cb, past = naive_cwr(options, **weights)
    np.testing.assert_allclose(head.consolidated[:, :-1], cw, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(head.consolidated[:, -1], cb, rtol=2e-3, atol=2e-4)
    assert head.past.tolist() == past.tolist()
    x, _ = clusters(60, range(C), 9)
    np.testing.assert_array_equal(head.predict(x, range(C)), (x @ cw.T + cb).argmax(axis=1))


def test_cwr_keeps_the_classes_that_an_event_does_not_bring():
    head = CWRStar(D, C)
    head.start(*EVENTS[0])
    before = head.consolidated.copy()
    head.event(*EVENTS[2], 1)
    for label in (0, 2, 3):
        np.testing.assert_array_equal(head.consolidated[label], before[label])
    for label in (1, 4):
        assert (head.consolidated[label] != before[label]).any()


def test_cwr_learns_from_an_event_of_one_class():
    head = CWRStar(D, C, HeadOptions(0.01, epochs=4, new_per_batch=8))
    head.start(*EVENTS[0])
    head.event(*EVENTS[1], 1)
    assert head.consolidated[3].any()


@pytest.mark.parametrize("name", HEADS)
def test_state_bytes_are_what_a_plan_counts(name):
    for network in ("mobilenet-v1-0.25@resolution=32", "resnet8", "har-cnn-1d"):
        workload = load_network(network)
        last = len(workload.units) - 1
        plan = TrainingPlan(cut=last, head=name, replay="none")
        step = training_step(workload, PlanBatch.from_plans(workload, [plan]))
        head = make_head(name, workload.cut_elements(last), workload.classes)
        assert head.state_bytes == int(step.static_bytes[Role.HEAD_STATE][0])


def test_every_head_of_a_plan_is_executed():
    assert {"sgd", *HEADS} == set(PLAN_HEADS)
    with pytest.raises(UnknownName, match="did you mean 'slda'"):
        make_head("sldaa", D, C)


@pytest.mark.parametrize("name", HEADS)
def test_heads_learn_what_arrives_and_predict_among_the_classes_seen(name):
    options = HeadOptions(rate=0.01)
    head = make_head(name, D, C, options)
    x, y = clusters(300, range(C), 9, spread=0.3)
    for number, classes in enumerate(((0, 1), (2, 3, 4))):
        learned = clusters(300, classes, number, spread=0.3)
        if number:
            head.event(*learned, number)
        else:
            head.start(*learned)
        seen = tuple(range(2)) if number == 0 else tuple(range(C))
        predicted = head.predict(x, seen)
        assert predicted.dtype == np.int64
        assert set(predicted.tolist()) <= set(seen)
    new = np.isin(y, (2, 3, 4))
    assert (predicted[new] == y[new]).mean() > 0.8
    if name in ("ncm", "slda"):
        assert (predicted == y).mean() > 0.95


@pytest.mark.parametrize("name", ["cwr", "tinyol"])
def test_the_same_seed_gives_the_same_bits(name):
    x, _ = clusters(60, range(C), 9)
    scores = [
        trained(make_head(name, D, C, HeadOptions(0.05, seed=seed))).scores(x).tobytes() for seed in (1, 1, 2)
    ]
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize("name", ["cwr", "tinyol"])
def test_a_diverging_rate_ends_in_predictions_not_in_an_error(name):
    head = trained(make_head(name, D, C, HeadOptions(rate=1e30, momentum=0.9, schedule="constant")))
    predicted = head.predict(EVENTS[0][0], range(C))
    assert set(predicted.tolist()) <= set(range(C))


def test_pretrained_weights_may_be_a_convolution_but_must_fit():
    head = TinyOL(D, C)
    weight = np.arange(C * D, dtype=np.float32).reshape(C, D, 1, 1)
    head.start(*EVENTS[0], weight=weight, bias=np.zeros(C, np.float32))
    np.testing.assert_array_equal(head.weight, weight.reshape(C, D))
    with pytest.raises(UserError, match=r"weight: shape \(5, 7\); \(5, 6\)"):
        head.start(*EVENTS[0], weight=np.zeros((C, D + 1), np.float32))


@pytest.mark.parametrize("name", HEADS)
def test_what_cannot_be_learned_is_refused_all_at_once(name):
    head = make_head(name, D, C)
    with pytest.raises(UserError) as raised:
        head.start(np.full((3, D + 1), np.nan, np.float32), np.array([0, 1, C]))
    assert [problem.key for problem in raised.value.problems] == ["features", "labels", "features"]
    with pytest.raises(UserError, match="one integer per sample"):
        head.event(np.zeros((3, D), np.float32), np.zeros(2, dtype=int), 1)
    with pytest.raises(UserError, match=r"n >= 1"):
        head.event(np.zeros((0, D), np.float32), np.zeros(0, dtype=int), 1)
    for seen in ((), (0, C)):
        with pytest.raises(UserError, match="one or more of 0 to 4"):
            head.predict(np.zeros((3, D), np.float32), seen)


def test_an_event_smaller_than_a_mini_batch_is_refused():
    head = CWRStar(D, C, HeadOptions(new_per_batch=21))
    head.start(*EVENTS[0])
    with pytest.raises(UserError, match="20 samples in an event, 21 per mini-batch; up to 20, or more"):
        head.event(*clusters(20, (3,), 2), 1)
