"""A run whose learning stage is a head over a frozen network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dse.plan.decisions import TrainingPlan
from dse.training.evaluation import Predicted, Scores, score
from dse.training.events import event_samples
from dse.training.heads import HeadOptions, make_head
from dse.training.parameters import fold
from dse.training.setting import Setting
from dse.training.task import Job

IntArray = NDArray[np.int64]


def run_head(setting: Setting, plan: TrainingPlan, job: Job) -> tuple[Scores, int, int]:
    """Run the plan's head over the stream; returns scores, bytes of replays (0) and bytes of its state."""
    last = len(setting.workload.units) - 1
    features = setting.features(last, plan.frozen_bits)
    labels = setting.dataset.train.y
    base = setting.stream.pretrain
    momentum = job.task.momentum if plan.optimiser == "momentum" else 0.0
    options = HeadOptions(
        rate=job.rate, momentum=momentum, epochs=plan.epochs, new_per_batch=plan.new_per_batch,
        schedule=job.task.schedule, seed=job.seed,
    )  # fmt: skip
    head = make_head(plan.head, features.train.shape[1], setting.dataset.classes, options)
    name = setting.workload.layers[setting.workload.units[last].layer].name
    folded = fold(setting.workload, setting.parameters)
    weights = {key: folded.get(f"{name}.{key}") for key in ("weight", "bias")}
    head.start(features.train[setting.at(base)], labels[base], **weights)
    evaluated = (
        features.test if job.split == "test" else features.train[setting.at(setting.stream.validation)]
    )
    seen = set(setting.stream.pretrain_classes)
    rows: list[Predicted | None] = [(head.predict(evaluated, tuple(sorted(seen))), frozenset(seen))]
    for number, experience in enumerate(setting.stream.experiences, 1):
        chosen = event_samples(labels[experience.train], plan.images_per_event, [job.seed, 23, number])
        indices = experience.train[chosen]
        head.event(features.train[setting.at(indices)], labels[indices], number)
        seen |= set(experience.classes)
        rows.append((head.predict(evaluated, tuple(sorted(seen))), frozenset(seen)))
    return score(setting, job.split, rows), 0, head.state_bytes
