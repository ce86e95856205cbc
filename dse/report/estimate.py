"""One plan priced: its results with their intervals, as records and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dse.accuracy import STATUSES, AccuracyEstimate
from dse.cost.context import Context
from dse.cost.energy import YEAR_S, events_per_day_for
from dse.cost.event import Costs
from dse.cost.intervals import Intervals
from dse.plan.decisions import LIFESPAN_CHOICES, TrainingPlan
from dse.report import text
from dse.report.accepted import accepted_text
from dse.units import human, human_bytes, human_seconds

RESULTS: Final = {
    "ram_peak_bytes": ("RAM peak", "B"),
    "nvm_bytes": ("non-volatile memory", "B"),
    "event_s": ("time per event", "s"),
    "event_j": ("energy per event", "J"),
    "lifetime_s": ("battery life", "s"),
    "utilisation": ("utilisation", "fraction"),
    "wear_years": ("wear, own blocks", "years"),
    "wear_years_levelled": ("wear, levelled", "years"),
}
"""Column of ``Costs`` -> (name for people, unit)."""


@dataclass(frozen=True)
class Estimate:
    """What one plan costs on one board; arrays in ``costs`` have one entry.

    ``accuracy`` is None where no source was asked; ``intervals`` is None where none were computed.
    """

    context: Context
    plan: TrainingPlan
    operating_point: str
    costs: Costs
    accuracy: AccuracyEstimate | None
    accuracy_source: str
    intervals: Intervals | None
    points: tuple[tuple[str, Costs], ...] = ()  # the same plan at every operating point of the board
    extra_bytes: float | None = None  # "extra memory" of arXiv 2206.15472, where a plan has such a name

    @property
    def fits(self) -> bool:
        """Whether every level holds what is placed on it, and every day the work."""
        return bool(self.costs.fits[0]) and float(self.costs.utilisation[0]) <= 1

    def value(self, column: str) -> float:
        """Return one result [SI] by the name of its column."""
        return float(np.ravel(getattr(self.costs, column))[0])

    @property
    def events_per_day_for_a_year(self) -> float:
        """Learning events per day that the battery sustains for a year."""
        costs = self.costs
        return float(
            events_per_day_for(
                self.context, YEAR_S, costs.event_j, costs.event_s, costs.inference_j, costs.inference_s,
                costs.wake_j, costs.wake_s, costs.sleep_w,
            )[0]
        )  # fmt: skip

    def records(self) -> list[dict[str, Any]]:
        """Return every result with low and high: quantity, value, low, high, unit."""
        return list(self._records())

    def _records(self) -> Iterator[dict[str, Any]]:
        if self.accuracy is not None:
            value, low, high = (float(np.ravel(part)[0]) for part in self.accuracy[:3])
            yield {"quantity": "accuracy", "value": value, "low": low, "high": high, "unit": "fraction"}
        for name, (_, unit) in RESULTS.items():
            value = self.value(name)
            low, high = self._ends(name, value)
            yield {"quantity": name, "value": value, "low": low, "high": high, "unit": unit}
        if self.extra_bytes is not None:
            extra = self.extra_bytes
            yield {"quantity": "extra_bytes", "value": extra, "low": extra, "high": extra, "unit": "B"}
        for level, used in self.costs.level_bytes.items():
            used_bytes = float(np.ravel(used)[0])
            yield {
                "quantity": f"level_bytes.{level}", "value": used_bytes, "low": used_bytes,
                "high": used_bytes, "unit": "B",
            }  # fmt: skip

    def _ends(self, name: str, value: float) -> tuple[float, float]:
        if self.intervals is None or name not in self.intervals.low:
            return value, value
        return float(self.intervals.low[name][0]), float(self.intervals.high[name][0])

    def to_frame(self) -> Any:
        """Return the results as a pandas DataFrame: quantity, value, low, high, unit (SI)."""
        import pandas as pd

        return pd.DataFrame.from_records(self.records())


def estimate_text(estimate: Estimate) -> str:
    """Write an estimate for a terminal."""
    sections = [
        heading(estimate.context, estimate.operating_point),
        plan_text(estimate.plan, estimate.context),
        verdict(estimate),
        _results(estimate),
        levels_text(estimate.context, estimate.costs),
        causes_text(estimate.costs),
        _points(estimate),
        unpriced_text(estimate.plan),
        accepted_text(estimate.context, estimate.plan.frozen_bits),
        _assumptions(estimate),
    ]
    return "\n\n".join(section for section in sections if section)


def _points(estimate: Estimate) -> str:
    """Write time and energy at every operating point, and how captured samples were counted."""
    rows = []
    for name, costs in estimate.points:
        minibatch, image, event = (
            human_seconds(float(np.ravel(part)[0]))
            for part in (costs.minibatch_s, costs.frozen_image_s, costs.event_s)
        )
        joules, life = human(float(costs.event_j[0]), "J"), human_seconds(float(costs.lifetime_s[0]))
        rows.append((name, minibatch, image, event, joules, life))
    duty = estimate.context.duty
    note = f"capturing one sample: {human(duty.capture_s, 's')}, {human(duty.capture_j, 'J')}"
    if estimate.plan.new_samples == "recompute" and estimate.plan.epochs > 1:
        note += "; without a cache every sample is captured again for every epoch"
    header = ("operating point", "mini-batch", "frozen image", "event", "energy per event", "battery life")
    return text.table(header, rows) + f"\n{note}" if rows else ""


def heading(context: Context, operating_point: str) -> str:
    """Say what is priced, on what, and by which rules."""
    point = context.board.operating_point(operating_point)
    watts = human(point.training_power_w.value, "W")
    clock = human(point.clock_hz.value, "Hz")
    rules = "" if context.accounting.name == "default" else f", accounting {context.accounting.name}"
    what = f"{context.workload.name} on {context.board.label}"
    return f"{what} at {point.name} ({clock}, {watts} in training){rules}"


def plan_text(plan: TrainingPlan, context: Context, indent: str = "") -> str:
    """Describe a plan in one paragraph."""
    return text.wrapped("plan: " + ", ".join(plan_words(plan, context)), 110, indent)


def plan_words(plan: TrainingPlan, context: Context) -> list[str]:
    """Return the decisions of a plan, most important first, each in a few words."""
    last = len(context.workload.units) - 1
    cut = "input" if plan.cut < 0 else f"{plan.cut} of {last}"
    if plan.head != "sgd":
        words = [f"head {plan.head} over the frozen network"]
    else:
        policy = getattr(plan.policy, "name", plan.policy)
        everything = "the last unit learns" if plan.cut == last else "all units above learn"
        words = [f"cut {cut}", everything if policy == "all" else f"policy {policy}"]
        words += [f"{plan.learning_dtype} {plan.optimiser}", *_int8_words(plan)]
        words += [f"batch norm {plan.bn_mode}"]
        words += ["first input dequantised"] if plan.first_input == "dequantised" else []
    words += [*_replay_words(plan), f"frozen stage at {plan.frozen_bits} bits"]
    batch = plan.new_per_batch + plan.replays_per_batch
    words += [
        f"mini-batch {plan.new_per_batch} new + {plan.replays_per_batch} replayed",
        f"micro-batch {plan.micro_batch}" if plan.micro_batch < batch else "whole mini-batch at once",
        f"update {plan.update}",
        f"{text.plural(plan.epochs, 'epoch')} of {plan.images_per_event} images",
        f"new samples {plan.new_samples}",
        *_lifespan_words(plan),
    ]
    if plan.persist_every != 1:
        words.append(
            f"persisted every {plan.persist_every} events" if plan.persist_every else "never persisted"
        )
    return words


def _int8_words(plan: TrainingPlan) -> list[str]:
    if plan.learning_dtype != "int8":
        return []
    return [
        f"errors {plan.backward_dtype}", f"gradients {plan.accumulator_dtype}",
        *(["classifier fp32"] if plan.classifier_dtype == "fp32" else []),
        "QAS" if plan.gradient_scaling == "qas" else "gradients of integers unscaled",
        f"weights rounded {plan.weight_rounding}",
    ]  # fmt: skip


def _lifespan_words(plan: TrainingPlan) -> list[str]:
    """Say how long buffers live, where it is not as by default."""
    words = {
        "in_place": f"in place {plan.in_place}", "checkpoints": f"checkpoints {plan.checkpoints}",
        "saved_bits": f"saved activations at {plan.saved_bits} bits", "im2col": f"im2col {plan.im2col}",
        "patches": f"patches {plan.patches}",
    }  # fmt: skip
    plain = TrainingPlan(plan.cut)
    return [words[name] for name in LIFESPAN_CHOICES if getattr(plan, name) != getattr(plain, name)]


def _replay_words(plan: TrainingPlan) -> list[str]:
    if plan.replay == "none":
        return ["no replay"]
    where = "" if plan.replay_level == "auto" else f" in {plan.replay_level}"
    down = ", rounded down" if plan.rounding == "floor" else ""
    return [f"{plan.n_replays} {plan.replay} replays at {plan.replay_bits} bits{down}{where}"]


def verdict(estimate: Estimate) -> str:
    """Say whether the plan fits; where not, by how much and where."""
    costs, board = estimate.costs, estimate.context.board
    short = estimate.value("short_bytes")
    if short > 0:
        level = board.levels[int(np.ravel(costs.short_level)[0])]
        used = float(np.ravel(costs.level_bytes[level.name])[0])
        return (
            f"does not fit: {human_bytes(short)} short at {level.name} "
            f"(needs {human_bytes(used)}, has {human_bytes(level.usable_bytes)})"
        )
    if not estimate.costs.fits[0]:
        return "does not fit: replays or weights would not survive sleep on this board"
    if estimate.value("utilisation") > 1:
        share = text.percent(estimate.value("utilisation"))
        return f"fits the memory, but not the day: events and inferences take {share} of the time"
    return "fits"


def _results(estimate: Estimate) -> str:
    rows = [_accuracy_row(estimate)] if estimate.accuracy is not None else []
    for name, (title, unit) in RESULTS.items():
        value = estimate.value(name)
        rows.append((title, text.written(value, unit), text.interval(*estimate._ends(name, value), unit)))
    if estimate.extra_bytes is not None:
        extra = human_bytes(estimate.extra_bytes)
        rows.append(("extra memory (arXiv 2206.15472)", extra, "a name, no peak: see dse explain"))
    duty = estimate.context.duty
    rows.append((text.YEARLY, text.yearly(estimate.events_per_day_for_a_year), ""))
    note = f"per day: learning events {duty.events_per_day:g}, inferences {duty.inferences_per_day:g}"
    header = ("result", "value", "interval from assumed numbers")
    if estimate.intervals is None:
        return text.table(header[:2], [row[:2] for row in rows]) + f"\n{note}"
    return text.table(header, rows) + f"\n{note}"


def _accuracy_row(estimate: Estimate) -> tuple[str, str, str]:
    assert estimate.accuracy is not None
    value, low, high, status = (np.ravel(part)[0] for part in estimate.accuracy)
    if STATUSES[int(status)] == "unknown":
        return "accuracy", "unknown", f"outside {estimate.accuracy_source}"
    return (
        "accuracy", text.percent(float(value)),
        f"{text.percent(low)} .. {text.percent(high)}, {STATUSES[int(status)]} ({estimate.accuracy_source})",
    )  # fmt: skip


def levels_text(context: Context, costs: Costs) -> str:
    """Write used and free bytes of every level."""
    rows = []
    for level in context.board.levels:
        used = float(np.ravel(costs.level_bytes[level.name])[0])
        free = float(np.ravel(costs.level_free_bytes[level.name])[0])
        reserve = level.size_bytes.value - level.usable_bytes
        rows.append(
            (
                level.name, level.technology, human_bytes(level.size_bytes.value), human_bytes(reserve),
                human_bytes(used), human_bytes(free) if free >= 0 else f"-{human_bytes(-free)}",
            )
        )  # fmt: skip
    return text.table(("level", "kind", "size", "reserve", "used", "free"), rows)


def causes_text(costs: Costs) -> str:
    """Write where the seconds and joules of an event go."""
    rows = []
    total_s, total_j = float(costs.event_s[0]), float(costs.event_j[0])
    for cause, seconds in costs.seconds.items():
        s, j = float(np.ravel(seconds)[0]), float(np.ravel(costs.joules[cause])[0])
        if s or j:
            rows.append((cause, text.written(s, "s"), _share(s, total_s), text.joules(j), _share(j, total_j)))
    rows.append(("event", text.written(total_s, "s"), "100 %", text.joules(total_j), "100 %"))
    return text.table(("cause", "time", "share", "energy", "share"), rows)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def unpriced_text(plan: TrainingPlan) -> str:
    """Say which work of a plan has no price, and which price nobody measured; empty where all have one."""
    if plan.learning_dtype != "int8":
        return ""
    notes = []
    if plan.weight_rounding == "stochastic":
        notes.append("a random number per updated weight (stochastic rounding)")
    if plan.gradient_scaling == "qas":
        notes.append("a multiplication per gradient (QAS)")
    lines = [f"not priced: {', '.join(notes)}"] if notes else []
    if plan.backward_dtype == "int8":
        lines.append("assumed: the rate of int8 backward passes, which nobody has published")
    return "\n".join(lines)


def _assumptions(estimate: Estimate) -> str:
    if estimate.intervals is None:
        return ""
    lines = influence_lines(estimate.intervals, ("event_s", "event_j", "lifetime_s"))
    return "\n".join(["uncertain numbers that matter most:", *lines]) if lines else ""


def influence_lines(intervals: Intervals, results: tuple[str, ...], count: int = 3) -> list[str]:
    """Write the numbers that move ``results`` most, with their intervals and what they do."""
    lines = []
    for influence in intervals.most_important(results, count):
        quantity = influence.quantity
        moved = [name for name in results if influence.weight((name,)) >= 0.005]
        effect = ", ".join(
            f"{RESULTS[name][0]} by {text.percent(influence.weight((name,)))}" for name in moved
        )
        lines.append(
            f"  {influence.path} = {quantity.value:g} ({quantity.low_value:g} .. {quantity.high_value:g}, "
            f"{quantity.kind.value}) moves {effect or 'little'}"
        )
    return lines
