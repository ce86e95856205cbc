"""Int8 plans executed in shared memory: every integer equals that of a walk over the graph, bit for bit.

The walk (``reference.Step``) knows no schedule, no buffer and no map; only the arithmetic is the same.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dse.execution.fp32 import Fp32
from dse.execution.int8.learning import frozen, inference
from dse.execution.int8.prepare import prepared_forward
from dse.execution.memory import Arena, Separate
from dse.execution.optimisers import Optimiser
from dse.execution.parameters import Given
from dse.execution.plain import arena_step
from dse.execution.samples import Samples
from dse.execution.step import Executor, Inputs, Stages
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.plan.step import training_step
from dse.plan.written import step_schedule
from tests.execution.cases import sample_bytes
from tests.execution.int8.arena_cases import FRAMES, case_of, placed, run_on
from tests.execution.int8.small import folded_parameters
from tests.plan.strategies import BRANCHES, network, random_plans

RESNET, MCUNET = "resnet8@width=0.5,classes=5", "mcunet-5fps@resolution=32"
HALF = UpdatePolicy.parse({"ratio": {5: 0.5, 6: 0.5, 7: 0.5, 8: 0.25, 9: 1.0}, "bias": [6, 7, 8, 9]})
PLAN = TrainingPlan(
    cut=2, replay="latent", n_replays=8, replay_bits=7, new_per_batch=3, replays_per_batch=5, micro_batch=4,
    learning_dtype="int8", weight_rounding="nearest",
)  # fmt: skip
RAW = {"replay": "raw", "replay_bits": 8, "new_samples": "cache_raw"}
NONE = {"replay": "none", "n_replays": 0, "replays_per_batch": 0, "new_per_batch": 4}

OPTIONS = {
    "as it is": {},
    "one sample at a time": {"micro_batch": 1},
    "the whole mini-batch": {"micro_batch": 8},
    "int8 errors": {"backward_dtype": "int8"},
    "int8 accumulators": {"accumulator_dtype": "int8"},
    "int8 errors and accumulators": {"backward_dtype": "int8", "accumulator_dtype": "int8"},
    "fp32 classifier": {"classifier_dtype": "fp32"},
    "fp32 classifier, int8 errors": {"classifier_dtype": "fp32", "backward_dtype": "int8"},
    "fp32 classifier, int8 accumulators": {"classifier_dtype": "fp32", "accumulator_dtype": "int8"},
    "update in place": {"update": "in_place", "micro_batch": 8},
    "update at once": {"update": "immediate", "micro_batch": 8},
    "update at once, int8 gradients": {"update": "immediate", "micro_batch": 8, "accumulator_dtype": "int8"},
    "momentum": {"optimiser": "momentum"},
    "adam": {"optimiser": "adam"},
    "lars": {"optimiser": "lars"},
    "no scaling": {"gradient_scaling": "none"},
    "stochastic rounding": {"weight_rounding": "stochastic"},
    "nothing in place": {"in_place": "none"},
    "nothing in place, int8 errors": {"in_place": "none", "backward_dtype": "int8"},
    "depthwise in place": {"in_place": "depthwise"},
    "saved at 4 bits": {"saved_bits": 4},
    "saved at 2 bits, int8 errors": {"saved_bits": 2, "backward_dtype": "int8"},
    "checkpoints": {"checkpoints": "every 2"},
    "checkpoints, saved at 4 bits": {"checkpoints": "every 2", "saved_bits": 4},
    "dequantised first input": {"first_input": "dequantised"},
    "stored at 3 bits": {"replay_bits": 3},
    "stored at 4 bits, rounded down": {"replay_bits": 4, "rounding": "floor"},
    "stored first input, checkpoints": {"replay_bits": 4, "checkpoints": "every 2"},
    "fp32 frozen stage": {"frozen_bits": 32},
    "raw replays": {**RAW},
    "captured again": {"new_samples": "recompute"},
    "from the input": {"cut": -1, **NONE},
    "biases alone": {"policy": "bias"},
    "the last one": {"policy": "last-1"},
    "some channels": {"policy": HALF, "optimiser": "momentum"},
    "some channels, int8 errors, saved at 4 bits": {
        "policy": HALF, "backward_dtype": "int8", "saved_bits": 4, "accumulator_dtype": "int8",
    },
}  # fmt: skip
RATES = {"adam": 100.0, "no scaling": 300.0}


def executed(case):
    """Integers behind a step in shared memory, and behind the same one on the graph alone."""
    memory_map = placed(case.schedule)
    apart = sum(-(-buffer.size_bytes // 4) * 4 for buffer in case.schedule.buffers)
    assert memory_map.arena_bytes["ram"] < apart
    return arena_step(memory_map, case.stages(), case.inputs()), case.reference()


def require_equal(case, moves=1):
    found, expected = executed(case)
    for key, value in expected.numbers.items():
        assert found.parameters[key].dtype == value.dtype
        np.testing.assert_array_equal(found.parameters[key], value, err_msg=key)
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    moved = sum(int((value != case.above.numbers[key]).sum()) for key, value in expected.numbers.items())
    assert moved >= moves


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_in_shared_memory_is_that_of_the_graph_bit_for_bit(option):
    plan = replace(PLAN, **OPTIONS[option])
    require_equal(case_of(network(BRANCHES), plan, rate=RATES.get(option, 0.3)), moves=20)


@pytest.mark.parametrize(("name", "cut"), [
    (RESNET, 2), ("ds-cnn", 2), ("har-cnn-1d", 0), ("autoencoder", 4), (MCUNET, 20),
    ("mobilenet-v1@width=0.25,resolution=32", 11), ("proxylessnas-w0.3@resolution=32", 33),
])  # fmt: skip
@pytest.mark.parametrize("errors", ["fp32", "int8"])
def test_networks_of_the_zoo_in_shared_memory(name, cut, errors):
    require_equal(case_of(network(name), replace(PLAN, cut=cut, backward_dtype=errors), rate=0.3), moves=20)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    random_plans((BRANCHES, RESNET, "ds-cnn", "har-cnn-1d", "autoencoder", MCUNET)),
    st.sampled_from(("none", "elementwise", "depthwise")),
    st.sampled_from((32, 4, 2)),
    st.sampled_from(("none", "every 2", "every 3")),
    st.integers(0, 1000),
)
def test_random_plans_in_shared_memory(drawn, in_place, saved_bits, checkpoints, seed):
    name, plan = drawn
    narrow = plan.accumulator_dtype if plan.update != "in_place" else "fp32"
    plan = replace(
        plan, learning_dtype="int8", bn_mode="folded", in_place=in_place, saved_bits=saved_bits,
        checkpoints=checkpoints, accumulator_dtype=narrow, patches="none",
    )  # fmt: skip
    require_equal(case_of(network(name), plan, seed, rate=0.2), moves=0)


@pytest.mark.parametrize("changes", [
    {}, {"cut": -1, **NONE}, {"classifier_dtype": "fp32"}, {"frozen_bits": 32}, {"in_place": "depthwise"},
    {"in_place": "none"}, {"patches": "2x2 to 2"},
])  # fmt: skip
def test_an_inference_in_the_same_memory_is_that_of_the_graph(changes):
    case = case_of(network(RESNET), replace(PLAN, **changes))
    stages = case.stages()
    executor = Executor(case.schedule, Arena(placed(case.schedule)), stages, case.inputs())
    frame = np.random.default_rng(3).integers(0, 256, case.workload.input_shape).astype(np.uint8)
    values = run_on(
        stages.inference, case.whole.numbers, FRAMES.decoded(frame.reshape(-1), (1, *frame.shape))
    )
    last = len(case.workload.layers) - 1
    np.testing.assert_array_equal(
        executor.infer(frame).ravel(), stages.inference.real(last, values[last]).ravel()
    )


def test_memory_of_its_own_for_every_buffer_gives_the_same():
    case = case_of(network(BRANCHES), replace(PLAN, backward_dtype="int8"), rate=0.3)
    found = Executor(case.schedule, Separate(case.schedule), case.stages(), case.inputs()).learn()
    for key, value in case.reference().numbers.items():
        np.testing.assert_array_equal(found.parameters[key], value)


# --- fp32 learning above an int8 frozen stage: the default plan ---

FP32 = replace(PLAN, learning_dtype="fp32", weight_rounding="stochastic", replay_bits=32, **NONE)


def fp32_case(**changes):
    """A plan that learns in fp32, its int8 frozen stage and inference, and the parameters of all."""
    workload, plan = network(BRANCHES), replace(FP32, **changes).canonical(network(BRANCHES))
    folded, frames = folded_parameters(workload), np.random.default_rng(1).integers(0, 256, (6, 3, 16, 16))
    known = FRAMES.decoded(frames.astype(np.uint8).reshape(-1), frames.shape)
    edge = workload.cut_layer(plan.cut)
    below = prepared_forward(workload, range(edge + 1), folded, known)
    whole = prepared_forward(workload, range(len(workload.layers)), folded, known)
    upper = Fp32(workload, optimiser=Optimiser(rate=0.1))
    own = frozen(workload, plan, below.constants)
    stages = Stages(upper, own, inference(workload, plan, whole.constants))
    latents = own.real(edge, run_on(own, below.numbers, known, edge)[edge])
    step = training_step(workload, PlanBatch.from_plans(workload, [plan]))
    schedule = step_schedule(step, plan, samples=sample_bytes(workload, plan))
    given = Given(folded, {**below.numbers}, {**whole.numbers})
    return schedule, stages, given, frames.astype(np.uint8), latents


def fp32_step(schedule, stages, given, samples):
    inputs = Inputs(given, samples, tuple(range(5)), frames=FRAMES)
    return Executor(schedule, Arena(placed(schedule)), stages, inputs)


def test_latents_of_an_int8_frozen_stage_inside_a_mini_batch_are_those_of_the_graph():
    labels = np.array([0, 1, 2, 3])
    schedule, stages, given, frames, latents = fp32_case(new_samples="recompute")
    found = fp32_step(schedule, stages, given, Samples(frames[:4], labels)).learn()
    schedule, stages, given, _, _ = fp32_case()
    expected = fp32_step(schedule, stages, given, Samples(latents[:4], labels)).learn()
    for key, value in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[key], value)
    assert found.loss == expected.loss
    assert not np.array_equal(found.parameters["fc.weight"], given.learning["fc.weight"])


def test_an_int8_inference_reads_the_copies_of_what_learns_in_fp32():
    schedule, stages, given, frames, latents = fp32_case()
    executor = fp32_step(schedule, stages, given, Samples(latents[:4], np.array([0, 1, 2, 3])))
    x = FRAMES.decoded(frames[5].reshape(-1), (1, *frames[5].shape))
    last = len(schedule.workload.layers) - 1
    numbers = {**given.copies, **given.frozen}
    values = run_on(stages.inference, numbers, x)
    np.testing.assert_array_equal(
        executor.infer(frames[5]).ravel(), stages.inference.real(last, values[last]).ravel()
    )
