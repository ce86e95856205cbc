"""The same mini-batch by ``dse.training``: PyTorch autograd on ordinary tensors, no memory map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dse.plan.decisions import PlanBatch
from dse.plan.learning_key import quantises_new
from dse.plan.policy import UpdatePolicy
from dse.plan.spec import kept_channels
from tests.execution.cases import MOMENTUM, RATE

torch = pytest.importorskip("torch", reason="autograd is the reference of a whole step")
learners = pytest.importorskip("dse.training.learner", reason="needs PyTorch")
stages = pytest.importorskip("dse.training.frozen", reason="needs PyTorch")
policies = pytest.importorskip("dse.training.policy", reason="needs PyTorch")

torch.set_num_threads(1)


def parameters_of(network, plan, inputs):
    """Folded numbers below the cut, the step's own above."""
    below = {layer.name for layer in network.layers[: network.cut_layer(plan.cut) + 1]}
    own, folded = inputs.parameters.learning, inputs.parameters.frozen
    found = {key: value for key, value in own.items() if key.rsplit(".", 1)[0] not in below}
    found |= {key: value for key, value in folded.items() if key.rsplit(".", 1)[0] in below}
    return _absorbed(network, found) if plan.saved_bits < 32 else found


def _absorbed(network, parameters):
    """The same network with biases in front of norms moved into their means, as a device holds it.

    What is saved in few bits is then the same, too: grids span values without the bias.
    """
    found = dict(parameters)
    for unit in network.units:
        mean, bias = f"{unit.name}.batch_norm.mean", f"{unit.name}.bias"
        if mean in found and bias in found:
            found[mean], found[bias] = found[mean] - found[bias], np.zeros_like(found[bias])
    return found


def selected(network, plan, inputs):
    """The inputs with the channels that training would let learn."""
    policy = UpdatePolicy.parse(plan.policy)
    kept = kept_channels(network, PlanBatch.from_plans(network, [plan]).weight_ratio)[0]
    channels = {}
    for unit in network.units:
        if 0 < kept[unit.index] < unit.in_channels:
            weight = torch.tensor(inputs.parameters.learning[f"{unit.name}.weight"])
            chosen = policies.chosen_channels(
                network, unit, weight, int(kept[unit.index]), policy.selection, 0
            )
            channels[unit.index] = chosen.numpy()
    return replace(inputs, channels=channels)


def latents_of(network, plan, inputs):
    """Real inputs of the learning stage and labels of the mini-batch: new samples, then replays."""
    samples = inputs.samples
    parts, labels = [], []
    for values, rows, names, raw in (
        (samples.new, samples.rows, samples.new_labels, plan.new_samples != "cache_latent"),
        (samples.replays, samples.replay_rows, samples.replay_labels, plan.replay == "raw"),
    ):
        if not len(rows):
            continue
        chosen = values[rows]
        if raw or plan.cut < 0:
            frames = inputs.frames.decoded(chosen.reshape(-1), chosen.shape)
            stage = stages.FrozenStage(network, parameters_of(network, plan, inputs), plan.cut, 32)
            chosen = stage.features(frames)
            if plan.cut >= 0 and quantises_new(plan):
                chosen = inputs.levels.decoded(inputs.levels.encoded(chosen), chosen.shape)
        else:
            chosen = inputs.levels.decoded(inputs.levels.encoded(chosen), chosen.shape)
        parts.append(chosen)
        labels.append(names[rows])
    return np.concatenate(parts), np.concatenate(labels)


def torch_step(network, plan, inputs, **options):
    """Loss and parameters behind one mini-batch."""
    learner = learners.Learner(
        network, parameters_of(network, plan, inputs), plan, rate=RATE, momentum=MOMENTUM,
        schedule="constant", **options,
    )  # fmt: skip
    learner.start_event(1)
    put_state(learner, inputs.parameters.state)
    loss = learner.step(*latents_of(network, plan, inputs), tuple(inputs.seen))
    found, own = learner.parameters(), inputs.parameters.learning
    for unit in network.units:  # biases that were moved stand where they stood
        mean, bias = f"{unit.name}.batch_norm.mean", f"{unit.name}.bias"
        if plan.saved_bits < 32 and mean in found and bias in found:
            found[mean], found[bias] = found[mean] + own[bias], own[bias]
    return loss, found


def put_state(learner, state):
    """Start from the same optimiser state as the step."""
    for piece in learner.learning.pieces:
        tensor = piece.tensor
        for vector, word in zip(learner.optimiser._state, state[piece.key], strict=True):
            view = vector.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
            part = torch.tensor(word).reshape(tensor.shape)
            view.copy_(part if piece.mask is None else part * piece.mask)


def difference(mine, theirs):
    """Largest difference of two sets of parameters, tensor by tensor relative to its largest number."""
    found = {}
    for key, value in mine.items():
        scale = max(float(np.abs(theirs[key]).max()), 1e-6)
        found[key] = float(np.abs(value - theirs[key]).max()) / scale
    return max(found.values())
