"""Heads in the arena against the heads of training, sample by sample; and what they predict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dse.execution.memory import Arena, Separate
from dse.execution.parameters import Given
from dse.execution.step import Executor
from dse.execution.trial.step import prepared_step
from tests.execution.cases import first_fit, inputs_of, network_of, plan_of, schedule_of, stages_of

training = pytest.importorskip("dse.training.heads", reason="the reference of heads lies beside PyTorch code")

NETWORK = "har-cnn-1d"
RATE = 0.05


def executed(kind, features, labels, frame, *, per_batch=1, start=None, head=None, seen=None):
    """Learn samples in mini-batches, one executor each, what one leaves being what the next is given."""
    network = network_of(NETWORK)
    plan = plan_of(network, cut=4, head=kind, new_per_batch=per_batch, micro_batch=per_batch, epochs=1)
    schedule = schedule_of(network, plan, cached=len(features))
    given = inputs_of(network, plan)
    own = {**given.parameters.learning, **(start or {})}
    samples = replace(given.samples, new=features, new_labels=labels)
    schedule_map = first_fit(schedule)
    stages = stages_of(network, plan)
    count = len(features) // per_batch
    for step in range(count):
        rows = np.arange(step * per_batch, (step + 1) * per_batch)
        inputs = replace(
            given, samples=replace(samples, rows=rows), head=head or {}, ends_event=step == count - 1,
            parameters=Given(own, given.parameters.frozen), seen=seen or tuple(sorted({*labels.tolist()})),
        )  # fmt: skip
        executor = Executor(schedule, Arena(schedule_map), stages, inputs)
        result = executor.learn()
        own, head = result.parameters, result.head
    return network, result, executor.infer(frame), own


@pytest.fixture(name="event")
def drawn():
    draw = np.random.default_rng(8)
    labels = np.array([0, 1, 2, 1, 0, 3])
    centres = draw.normal(0, 1, (6, 64))
    features = (np.abs(centres[labels] + 0.3 * draw.normal(0, 1, (6, 64)))).astype(np.float32)
    frame = draw.integers(0, 256, (6, 128)).astype(np.uint8)
    return features, labels, frame


def features_of(network, frame):
    """What enters the last unit, by the fp32 network of training."""
    frozen = pytest.importorskip("dse.training.frozen", reason="needs PyTorch")
    given = inputs_of(network, plan_of(network, cut=4, head="ncm"))
    stage = frozen.FrozenStage(network, given.parameters.frozen, 4, 32)
    return stage.features(given.frames.decoded(frame.reshape(-1), (1, *frame.shape)))


@pytest.mark.parametrize("kind", ["ncm", "slda"])
def test_statistics(kind, event):
    features, labels, frame = event
    network, result, scores, _ = executed(kind, features, labels, frame)
    head = training.make_head(kind, 64, 6)
    head.start(features, labels)
    np.testing.assert_allclose(result.head["means"], head.means, rtol=1e-6, atol=1e-7)
    assert np.array_equal(result.head["counts"], head.counts)
    if kind == "slda":
        np.testing.assert_allclose(result.head["covariance"], head.covariance, rtol=1e-5, atol=1e-6)
        # Six samples leave most directions without variance: the inverse, stored in fp32, has large entries.
        np.testing.assert_allclose(result.head["weight"], head.weight, rtol=2e-3, atol=1)
        np.testing.assert_allclose(result.head["bias"], head.bias, rtol=2e-3, atol=1)
    expected = head.scores(features_of(network, frame))[0]
    known = np.isfinite(expected)
    np.testing.assert_allclose(scores[known], expected[known], rtol=5e-3)
    assert (scores[~known] == np.finfo(np.float32).min).all()


def test_tinyol(event):
    features, labels, frame = event
    seen = (0, 1, 2, 3)
    network, _, logits, own = executed("tinyol", features, labels, frame, seen=seen)
    start = inputs_of(network, plan_of(network, cut=4, head="tinyol")).parameters.learning
    head = training.make_head("tinyol", 64, 6, training.HeadOptions(rate=RATE, schedule="constant"))
    head.start(features, labels, weight=start["classifier.weight"], bias=start["classifier.bias"])
    head._descend(features, labels, list(np.arange(len(labels))[:, None]))
    np.testing.assert_allclose(own["classifier.weight"], head.weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(own["classifier.bias"], head.bias, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, head.scores(features_of(network, frame))[0], rtol=1e-4, atol=1e-5)


def test_cwr(event):
    """One event: the temporary bank starts from the consolidated one, learns, and is consolidated."""
    features, labels, frame = event
    draw = np.random.default_rng(3)
    bank, counts = draw.normal(0, 0.1, (6, 65)).astype(np.float32), np.array([4, 0, 9, 0, 0, 2])
    present = np.bincount(labels, minlength=6) > 0
    temporary = np.where(present[:, None], bank, np.float32(0))
    start = {"classifier.weight": temporary[:, :-1].copy(), "classifier.bias": temporary[:, -1].copy()}
    seen = (0, 1, 2, 3, 5)
    network, result, logits, _ = executed(
        "cwr",
        features,
        labels,
        frame,
        per_batch=2,
        start=start,
        head={"bank": bank, "counts": counts},
        seen=seen,
    )
    options = training.HeadOptions(rate=RATE, schedule="constant", epochs=1, new_per_batch=2)
    head = training.make_head("cwr", 64, 6, options)
    head.consolidated, head.past = bank.copy(), counts.astype(np.int32)
    head.seen[list(seen)] = True
    head.weight, head.bias = temporary[:, :-1].copy(), temporary[:, -1].copy()
    head._descend(features, labels, list(np.arange(6).reshape(3, 2)))
    head._consolidate(labels)
    np.testing.assert_allclose(result.head["bank"], head.consolidated, rtol=1e-5, atol=1e-6)
    assert np.array_equal(result.head["counts"], head.past)
    np.testing.assert_allclose(logits, head.scores(features_of(network, frame))[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["ncm", "slda", "cwr", "tinyol"])
def test_an_inference_above_an_int8_stage_has_scores_of_32_bits(head):
    """Scores are fractions and may be negative: bytes could not hold them."""
    network = network_of("ds-cnn")
    plan = plan_of(network, cut=9, head=head, frozen_bits=8, replay="none", new_per_batch=4)
    schedule = schedule_of(network, plan)
    scores = prepared_step(schedule, 3).run(schedule, Separate(schedule)).logits
    assert scores.dtype == np.float32
    assert np.any(scores != np.round(scores))
    assert len(set(scores.tolist())) > 1
