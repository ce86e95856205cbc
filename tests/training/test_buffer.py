"""Replay buffers: bytes as planned, what each policy keeps, and the order of replays."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.cost.context import Context
from dse.cost.memory import label_bytes, replay_bytes, sample_bytes
from dse.cost.model import price
from dse.errors import UnknownName, UserError
from dse.hardware import load_board
from dse.plan.decisions import NEW_SAMPLES, REPLAYS, ROUNDINGS, PlanBatch, TrainingPlan
from dse.plan.step import training_step
from dse.plan.techniques import illegal
from dse.training.buffer import POLICIES, ReplayBuffer, fair_shares
from dse.training.packing import Quantiser
from dse.vocabulary import REPLAY_BITS
from dse.workload import load_network
from tests.plan.strategies import NAMES, network

VEGA = load_board("vega + hyperram-64")


def buffer(capacity, policy="qlr-cl", seed=0, *, bits=32, elements=1, classes=10):
    return ReplayBuffer(
        capacity, elements, Quantiser(bits, "nearest", 1.0, False, elements),
        classes=classes, policy=policy, seed=seed,
    )  # fmt: skip


def numbered(first, labels):
    """Samples of one element: their running number, so that a test sees which of them were kept."""
    return np.arange(first, first + len(labels), dtype=np.float32)[:, None], np.asarray(labels)


def kept(held):
    return held.latents[:, 0].astype(int)


def buffer_of(workload, plan):
    """The buffer that a run of ``plan`` makes."""
    plan = plan.canonical(workload)
    raw = plan.replay == "raw"
    elements = int(np.prod(workload.input_shape)) if raw else workload.cut_elements(plan.cut)
    quantiser = (
        Quantiser.of_frames(elements)
        if raw
        else Quantiser(plan.replay_bits, plan.rounding, 1.0, False, elements)
    )
    slots = plan.n_replays if plan.replay != "none" else 0
    return ReplayBuffer(slots, elements, quantiser, classes=workload.classes, policy="qlr-cl", seed=0)


@st.composite
def replay_plans(draw):
    """Draw (network, plan): any cut, replay and width."""
    workload = network(draw(st.sampled_from(NAMES)))
    replay = draw(st.sampled_from(REPLAYS))
    cut = draw(st.sampled_from(workload.legal_cuts if replay == "latent" else (-1, *workload.legal_cuts)))
    plan = TrainingPlan(
        cut=cut, replay=replay, n_replays=draw(st.integers(1, 400)),
        replay_bits=draw(st.sampled_from(REPLAY_BITS)), rounding=draw(st.sampled_from(ROUNDINGS)),
        new_samples=draw(st.sampled_from(NEW_SAMPLES)), new_per_batch=1,
    )  # fmt: skip
    return workload, plan


def planned_bytes(workload, plan):
    """Bytes of samples, scale and labels, as the cost model prices them."""
    batch = PlanBatch.from_plans(workload, [plan])
    costs = price(Context(workload, VEGA), batch)
    return float(costs.replay_bytes[0]) + int(batch.n_replays[0]) * label_bytes(workload.classes)


@given(replay_plans())
def test_bytes_held_are_the_bytes_planned(case):
    workload, plan = case
    batch = PlanBatch.from_plans(workload, [plan])
    assert not illegal(workload, batch)
    sample, _ = sample_bytes(training_step(workload, batch), batch, whole=True)
    planned = replay_bytes(batch.n_replays, sample, header=True) + batch.n_replays * label_bytes(
        workload.classes
    )
    assert buffer_of(workload, plan).nbytes == planned[0]


@pytest.mark.parametrize("bits", REPLAY_BITS)
@pytest.mark.parametrize("n_replays", [1, 7, 750])
def test_bytes_of_latent_replays_at_every_width(bits, n_replays):
    workload = load_network("mobilenet-v1-0.25@resolution=32")
    for cut in (8, 20, 27):
        plan = TrainingPlan(cut=cut, n_replays=n_replays, replay_bits=bits)
        assert buffer_of(workload, plan).nbytes == planned_bytes(workload, plan)


@pytest.mark.parametrize("classes", [255, 256, 257, 1000])
def test_labels_take_two_bytes_above_256_classes(classes):
    workload = load_network(f"mobilenet-v1-0.25@classes={classes}")
    plan = TrainingPlan(cut=27, n_replays=11, replay_bits=3)
    held = buffer_of(workload, plan)
    assert held.nbytes == planned_bytes(workload, plan)
    assert held.nbytes == 11 * 96 + 11 * (1 if classes <= 256 else 2) + 4


@pytest.mark.parametrize("head", ["ncm", "slda", "cwr", "tinyol"])
def test_heads_and_plans_without_replays_hold_nothing(head):
    workload = load_network("mobilenet-v1-0.25@resolution=32")
    for plan in (TrainingPlan(cut=27, head=head), TrainingPlan(cut=20, replay="none")):
        assert buffer_of(workload, plan).nbytes == planned_bytes(workload, plan) == 0


@given(st.integers(0, 3000), st.integers(1, 500), st.sampled_from(REPLAY_BITS), st.integers(1, 600))
def test_bytes_follow_the_planned_formula(n_replays, elements, bits, classes):
    sample = np.array([-(-elements * bits // 8)], dtype=float)
    planned = replay_bytes(np.array([n_replays]), sample, header=True)[0]
    held = buffer(n_replays, bits=bits, elements=elements, classes=classes)
    assert held.nbytes == planned + n_replays * label_bytes(classes)


def test_latent_bytes_of_a_step_are_the_bytes_of_a_row():
    workload = load_network("resnet8")
    for bits in REPLAY_BITS:
        plan = TrainingPlan(cut=workload.legal_cuts[1], replay_bits=bits)
        step = training_step(workload, PlanBatch.from_plans(workload, [plan]))
        assert buffer_of(workload, plan).quantiser.row_bytes == int(step.latent_bytes[0])


@pytest.mark.parametrize("policy", POLICIES)
def test_contents_are_the_samples_at_the_bits_of_the_buffer(policy):
    draw = np.random.default_rng(1)
    x = draw.random((60, 13)).astype(np.float32)
    labels = draw.integers(0, 300, 60)
    quantiser = Quantiser.calibrated(3, "floor", x, signed=False)
    held = ReplayBuffer(25, 13, quantiser, classes=300, policy=policy, seed=4)
    held.fill(x[:20], labels[:20])
    for event in (1, 2):
        held.update(x[20 * event : 20 * event + 20], labels[20 * event : 20 * event + 20], event)
    stored = {(*row, label) for row, label in zip(quantiser.quantised(x).tolist(), labels, strict=True)}
    content = [(*row, label) for row, label in zip(held.latents.tolist(), held.labels, strict=True)]
    assert set(content) <= stored
    assert len(set(content)) == held.filled == 25
    drawn, drawn_labels = held.sample(25)
    assert {(*row, label) for row, label in zip(drawn.tolist(), drawn_labels, strict=True)} == set(content)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_bits(policy):
    def history(seed):
        held = buffer(20, policy, seed)
        held.fill(*numbered(0, np.arange(100) % 4))
        held.update(*numbered(100, np.arange(50) % 2 + 4), 1)
        return kept(held).tolist() + held.sample(7)[0][:, 0].tolist()

    assert history(5) == history(5)
    assert history(5) != history(6)


def test_qlr_cl_replaces_n_over_i_slots_and_never_more_than_arrive():
    held = buffer(100)
    assert held.fill(*numbered(0, np.zeros(500, dtype=int))) == 100
    before = kept(held)
    for event, new, replaced in ((2, 200, 50), (3, 200, 33), (4, 10, 10), (5, 200, 20)):
        assert held.update(*numbered(1000 * event, np.ones(new, dtype=int)), event - 1) == replaced
        after = kept(held)
        assert (after != before).sum() == replaced
        assert (after[after != before] // 1000 == event).all()
        before = after
    assert len(set(before.tolist())) == 100


def test_qlr_cl_takes_free_slots_first():
    held = buffer(100)
    assert held.fill(*numbered(0, np.zeros(30, dtype=int))) == 30
    assert held.update(*numbered(1000, np.ones(200, dtype=int)), 1) == 50
    assert (held.filled, sorted(kept(held)[:30])) == (80, list(range(30)))
    assert held.update(*numbered(2000, np.ones(200, dtype=int)), 2) == 33
    assert held.filled == 100
    assert Counter((kept(held) // 1000).tolist())[2] == 33
    assert Counter((kept(held)[:80] // 1000).tolist())[2] == 13  # 20 were free


def shares_of_samples(policy, labels, runs, capacity):
    """How often each sample of three events is in the buffer at the end."""
    counts = np.zeros(len(labels))
    for seed in range(runs):
        held = buffer(capacity, policy, seed)
        first = len(labels) // 2
        held.fill(*numbered(0, labels[:first]))
        cuts = [first, 3 * len(labels) // 4, len(labels)]
        for event, (begin, end) in enumerate(pairwise(cuts), 1):
            held.update(*numbered(begin, labels[begin:end]), event)
        counts[kept(held)] += 1
    return counts / runs


def test_a_reservoir_keeps_every_sample_with_the_same_chance():
    labels = np.zeros(40, dtype=int)
    share = shares_of_samples("reservoir", labels, 2000, 10)
    assert share.sum() == pytest.approx(10)
    # Binomial, 2000 draws at 1/4: standard error 0.0097; 40 samples stay within 4.5 of it.
    assert np.abs(share - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 2000)


def test_class_balanced_keeps_every_sample_of_a_class_with_the_same_chance():
    labels = np.array([0] * 14 + [1] * 6 + [0, 1, 1, 1, 1] * 4)
    share = shares_of_samples("class-balanced", labels, 2000, 12)
    for label in (0, 1):
        wanted = 6 / (labels == label).sum()
        error = np.sqrt(wanted * (1 - wanted) / 2000)
        assert np.abs(share[labels == label] - wanted).max() < 4.5 * error


def test_a_reservoir_takes_the_first_samples_as_they_come():
    held = buffer(10, "reservoir")
    assert held.fill(*numbered(0, np.zeros(7, dtype=int))) == 7
    assert kept(held).tolist() == list(range(7))
    held.update(*numbered(7, np.ones(3, dtype=int)), 1)
    assert kept(held).tolist() == list(range(10))


def test_class_balanced_divides_the_slots_evenly_over_the_classes_seen():
    held = buffer(30, "class-balanced")
    held.fill(*numbered(0, np.repeat([0, 1], 50)))
    assert np.bincount(held.labels).tolist() == [15, 15]
    held.update(*numbered(100, np.repeat([2, 3], [50, 4])), 1)
    assert np.bincount(held.labels).tolist() == [9, 9, 8, 4]
    held.update(*numbered(200, np.repeat([4], [50])), 2)
    assert np.bincount(held.labels).tolist() == [7, 7, 6, 4, 6]
    assert len(set(kept(held).tolist())) == 30


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.integers(0, 40))
def test_fair_shares_hand_out_slot_by_slot(available, capacity):
    shares = [0] * len(available)
    for _ in range(min(capacity, sum(available))):
        open_ = [one for one, most in enumerate(available) if shares[one] < most]
        least = min(open_, key=lambda one: (shares[one], one))
        shares[least] += 1
    assert fair_shares(np.array(available), capacity).tolist() == shares


def test_replays_have_their_turn_before_any_comes_again():
    held = buffer(10)
    held.fill(*numbered(0, np.zeros(10, dtype=int)))
    drawn = [held.sample(4)[0][:, 0].astype(int) for _ in range(10)]
    assert all(len(set(each.tolist())) == 4 for each in drawn)
    flat = np.concatenate(drawn)
    for turn in range(4):
        assert sorted(flat[10 * turn : 10 * turn + 10]) == list(range(10))
    assert len({tuple(flat[10 * turn : 10 * turn + 10]) for turn in range(4)}) == 4


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(0, 9))
def test_no_draw_holds_a_replay_twice(counts, seed):
    held = buffer(9, seed=seed)
    held.fill(*numbered(0, np.zeros(9, dtype=int)))
    for count in counts:
        drawn = held.sample(count)[0]
        assert len(np.unique(drawn)) == count == len(drawn)


def test_the_whole_buffer_is_drawn_again_after_an_update():
    held = buffer(10)
    held.fill(*numbered(0, np.zeros(10, dtype=int)))
    held.sample(7)
    held.update(*numbered(100, np.ones(10, dtype=int)), 1)
    assert sorted(held.sample(10)[0][:, 0]) == sorted(held.latents[:, 0])


def test_nothing_is_held_without_slots():
    for held in (buffer(0), buffer(0, elements=12, bits=3)):
        elements = held.quantiser.elements
        assert held.fill(np.zeros((5, elements), np.float32), np.zeros(5, dtype=int)) == 0
        assert held.update(np.zeros((5, elements), np.float32), np.ones(5, dtype=int), 1) == 0
        latents, labels = held.sample(0)
        assert (held.nbytes, held.filled, latents.shape, labels.shape) == (0, 0, (0, elements), (0,))
        with pytest.raises(UserError, match="1 replays per mini-batch, 0 stored"):
            held.sample(1)


def test_an_event_without_samples_changes_nothing():
    held = buffer(5)
    held.fill(*numbered(0, np.zeros(9, dtype=int)))
    before = kept(held).tolist()
    assert held.update(*numbered(0, np.zeros(0, dtype=int)), 1) == 0
    assert kept(held).tolist() == before


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError) as raised:
        ReplayBuffer(-1, 3, Quantiser(8, "nearest", 1.0, False, 4), classes=0, policy="qlr-cl", seed=0)
    assert [problem.key for problem in raised.value.problems] == ["n_replays", "elements", "classes"]
    with pytest.raises(UnknownName, match="did you mean 'reservoir'"):
        buffer(3, "resevoir")
    held = buffer(3)
    with pytest.raises(UserError, match="one integer per sample"):
        held.fill(np.zeros((4, 1), np.float32), np.zeros(3, dtype=int))
    with pytest.raises(UserError, match="one integer per sample"):
        held.fill(np.zeros((4, 1), np.float32), np.zeros(4))
    with pytest.raises(UserError, match="labels 0 to 10; 0 to 9"):
        held.fill(np.zeros((2, 1), np.float32), np.array([0, 10]))
    with pytest.raises(UserError, match="counted from 1"):
        held.update(*numbered(0, np.zeros(4, dtype=int)), 0)
    held.fill(*numbered(0, np.zeros(2, dtype=int)))
    with pytest.raises(UserError, match=r"3 replays per mini-batch, 2 stored; .*pretrain_per_class"):
        held.sample(3)
    with pytest.raises(UserError, match="fill it once"):
        held.fill(*numbered(0, np.zeros(2, dtype=int)))
