"""A validation as files in the run folder: validation.csv, validation.md and a figure; and as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dse.files import atomic_path
from dse.plan.learning_key import LEARNING_CHOICES, counts
from dse.report import text
from dse.training.task import Task
from dse.validation.comparison import PLANNED, Agreement, Validation
from dse.validation.select import Chosen
from dse.validation.statistics import Interval

FILE: Final = "validation"
FIGURE: Final = f"figures/{FILE}"
POINTS: Final = 100
LISTED: Final = 30
"""Most plans of a role that the report lists; all are in validation.csv."""

NOT_ENOUGH: Final = "not enough"

Row = Mapping[str, Any]


def write_validation(found: Validation, folder: Path) -> Path:
    """Write validation.csv, validation.md and figures/validation (png, svg) into the run folder ``folder``.

    Each file appears complete or not at all. Returns the path of validation.md.
    """
    from dse.report.figures import save_all
    from dse.report.figures.validation import validation_figure

    with atomic_path(folder / f"{FILE}.csv") as partial:
        found.to_frame().to_csv(partial, index=False, lineterminator="\n", float_format="%.6g")
    if found.trained:
        (folder / FIGURE).parent.mkdir(exist_ok=True)
        save_all(validation_figure(found), folder / FIGURE)
    with atomic_path(folder / f"{FILE}.md") as partial:
        partial.write_text(validation_text(found), encoding="utf-8", newline="\n")
    return folder / f"{FILE}.md"


def validation_text(found: Validation) -> str:
    """Write a validation as Markdown."""
    sections = [f"# {found.title}: predicted and measured accuracy", *headline(found)]
    if found.trained:
        sections += [f"![predicted and measured accuracy]({FIGURE}.png)", *_body(found)]
    sections += list(_left(found))
    sections += ["## How", _how(found)]
    return "\n\n".join(sections) + "\n"


def outcome_text(found: Validation) -> str:
    """Write a validation for a terminal."""
    lines = [text.wrapped(line.replace("**", ""), 110) for line in headline(found)]
    if found.trained:
        lines += [text.table(*agreement_rows(found)), text.table(*plan_rows(found, ("front",), LISTED))]
        lines += [text.table(*plan_rows(found, ("head", "reference"), LISTED))]
    return "\n\n".join(line for line in lines if line)


# --- what it comes to ---


def headline(found: Validation) -> list[str]:
    """Say in sentences what was trained and what came out."""
    lines = [_trained(found)]
    if found.stand_in:
        lines.append(
            f"**Stand-in network.** {found.stand_in} was trained in place of the run's own network. "
            "Accuracies are those of the stand-in: predictions are compared by rank alone."
        )
    if not found.trained:
        return lines
    return [*lines, " ".join(_findings(found))]


def _trained(found: Validation) -> str:
    done, seeds = len(found.records), len(found.seeds)
    plans = text.plural(len(found.trained), "plan")
    line = f"{plans} trained with {text.plural(seeds, 'paired seed')}; {done:,} test runs"
    missing = found.wanted - done - found.tried
    if missing > 0:
        line += f", {missing:,} more were asked for: the same command goes on from here"
    if seeds < 2:
        return f"{line}. A single seed does not show how much runs differ."
    return (
        f"{line}. Runs of one plan differ by {_points(found.noise)} points (standard deviation), by "
        f"{_points(found.paired_noise)} once what a seed does to all plans alike is taken out."
    )


def _findings(found: Validation) -> Iterator[str]:
    rows = [row for row in found.rows if row["role"] in ("front", "space")]
    best = found.best
    if best >= 0:
        row = found.rows[best]
        yield f"Measured best: {row['name']} ({_where(row)}) with {_percent(row['measured'])}."
        tied = sum(row["tied_with_best"] for row in rows)
        if len(found.seeds) > 1 and len(rows) > 1:
            yield f"Ties with it: {tied or 'none'} of {text.plural(len(rows) - 1, 'other plan')}."
    if len(found.seeds) > 1:
        yield from _against_heads(found)
    wrong = [row["name"] for row in found.rows if not row["bytes_equal"]]
    if wrong:
        yield f"**Planned and held replay bytes differ: {', '.join(wrong)}.**"
    else:
        yield f"Planned replay bytes equal the bytes held in all {len(found.records):,} runs."


def _against_heads(found: Validation) -> Iterator[str]:
    front = [row for row in found.rows if row["role"] == "front" and row["head"] == "sgd"]
    beaten = [row for row in front if row["beaten_by_head"]]
    tied = [row for row in front if row["tied_with_head"] and not row["beaten_by_head"]]
    if not front or not any(row["head"] != "sgd" for row in found.rows):
        return
    if beaten:
        yield f"**Beaten by a cheap head: {len(beaten)} of {text.plural(len(front), 'plan')} of the front.**"
    if tied:
        yield f"Not told apart from a cheap head: {len(tied)} of {len(front)}."
    if not beaten and not tied:
        yield "No cheap head reaches a plan of the front."


# --- tables ---


def _body(found: Validation) -> Iterator[str]:
    yield "## How well accuracy was predicted"
    yield _prediction(found)
    yield text.markdown(*agreement_rows(found))
    for heading, roles in (
        ("Plans of the front", ("front",)),
        ("Cheap heads and references on the same stream", ("head", "reference")),
        ("Other plans of the space", ("space",)),
    ):
        header, rows = plan_rows(found, roles, LISTED)
        if rows:
            yield f"## {heading}"
            yield text.markdown(header, rows)
            count = sum(row["role"] in roles for row in found.rows)
            if count > len(rows):
                yield f"{len(rows)} of {count}, the most accurate; all are in [{FILE}.csv]({FILE}.csv)."


def _prediction(found: Validation) -> str:
    if not found.prediction:
        return "The run predicted no accuracy."
    return (
        f"Predicted by: {found.prediction}. Intervals of correlations are bootstrapped over plans, that of "
        "the regret is paired over seeds, all at 90 %."
    )


def agreement_rows(found: Validation) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: how well predictions did, by set of plans."""
    header = [
        "plans", "number", "Spearman", "Kendall tau-b", "top-1 regret (points)", "pairs told apart",
        "of these in order", "runs inside the predicted interval",
    ]  # fmt: skip
    return header, [_agreement(name, each) for name, each in found.agreement.items()]


def _agreement(name: str, each: Agreement) -> list[str]:
    apart = f"{each.told_apart} of {each.pairs}" if each.pairs else NOT_ENOUGH
    return [
        name, str(each.plans), _interval(each.spearman), _interval(each.kendall),
        _interval(each.regret, POINTS), apart, _share(each.ordered_right), _share(each.covered),
    ]  # fmt: skip


def plan_rows(found: Validation, roles: Sequence[str], most: int) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of up to ``most`` plans of ``roles``, the most accurate first."""
    rows = sorted(
        (row for row in found.rows if row["role"] in roles), key=lambda row: -_number(row["measured"])
    )
    networks = {row["network"] for row in found.rows}
    header = [
        "plan", "predicted", "measured", "to the best (points)", "forgetting (points)",
        "replay bytes planned", "held", "remarks",
    ]  # fmt: skip
    return header, [_plan(row, len(networks) > 1) for row in rows[:most]]


def _plan(row: Row, several: bool) -> list[str]:
    name = f"{row['network']}: {row['name']}" if several else str(row["name"])
    return [
        name, _percent(row["predicted"]), _measured(row), _gap(row), _points(row["forgetting"]),
        f"{row['planned_replay_bytes']:,}", f"{row['held_replay_bytes']:,}", "; ".join(_remarks(row)),
    ]  # fmt: skip


def _measured(row: Row) -> str:
    half = row["measured_high"] - row["measured"]
    return _percent(row["measured"]) + (f" ± {half * POINTS:.2f}" if math.isfinite(half) else "")


def _gap(row: Row) -> str:
    value, low, high = (row[name] * POINTS for name in ("to_best", "to_best_low", "to_best_high"))
    if not math.isfinite(value) or value == low == high == 0:
        return "-"
    return f"{value:+.2f}" + (f" ({low:+.2f} .. {high:+.2f})" if math.isfinite(low) else "")


def _remarks(row: Row) -> Iterator[str]:
    if not math.isfinite(row["measured"]):
        yield "no accuracy: its runs diverged"
    if row["beaten_by_head"]:
        yield f"beaten by {_listed(row['beaten_by_head'])}"
    tied = ["the best"] if row["tied_with_best"] and row["role"] in PLANNED and row["seeds"] > 1 else []
    tied += [_listed(row["tied_with_head"])] if row["tied_with_head"] else []
    if tied:
        yield f"ties with {', '.join(tied)}"
    if not row["bytes_equal"]:
        yield "REPLAY BYTES DIFFER"


def _listed(words: str) -> str:
    return ", ".join(words.split())


def _left(found: Validation) -> Iterator[str]:
    """List the plans that were not trained, and why."""
    lines = [f"- {_name(each.plan)}: {each.reason}" for each in found.left]
    names = {each.key: each.name for each in found.chosen}
    lines += [f"- {names[key]}: {reason}" for key, reason in found.failures.items()]
    reached = {each.key for each in found.trained} | set(found.failures)
    late = [each.name for each in found.chosen if each.key not in reached]
    if late:
        lines.append(f"- {text.plural(len(late), 'plan')} not reached before runs or time were used up")
    if lines:
        yield "## What was not trained"
        yield "\n".join(lines)


def _name(plan: Any) -> str:
    shown = ("head", "cut", "n_replays", "replay_bits", "learning_dtype", "bn_mode", "optimiser")
    return ", ".join(f"{name} {getattr(plan, name)}" for name in shown)


# --- how it was done ---


def _how(found: Validation) -> str:
    task = found.task
    rates = sorted({(each.plan.head, found.rates[each.key]) for each in found.trained})
    rates = [(head, rate) for head, rate in rates if rate > 0]
    constant = _constant(found.trained)
    lines = [
        f"- task: {_task(task)}",
        "- every plan starts from the same pretrained network and sees the same samples in the same order "
        f"(seeds {found.seeds[0]} to {found.seeds[-1]}, none of which chose anything)" if found.seeds else "",
        "- learning rates: " + (", ".join(f"{head} {rate:g}" for head, rate in rates) or "none"),
        f"- the same for all plans: {constant}" if constant else "",
        "- measured: mean accuracy over all classes seen, after the last experience, with its 90 % t "
        "interval over seeds; two plans are told apart where that of their paired difference excludes 0, and "
        "tie where it does not",
        "- forgetting: Chaudhry et al., ECCV 2018; backward transfer (in the table): Lopez-Paz and Ranzato, "
        "NeurIPS 2017",
        "- naive: the plan that was expected to be most accurate, without replays; joint: the same network "
        "stage on all data at once",
        f"- every run is a file in [{FILE}]({FILE})",
    ]  # fmt: skip
    return "\n".join(line for line in lines if line)


def _task(task: Task) -> str:
    data = task.data if isinstance(task.data, str) else str(task.data.get("kind"))
    return (
        f"{data}, stream {task.stream}: {task.first} at first, {task.step} more per experience, up to "
        f"{task.per_class or 'all'} samples of each; {task.pretrain_epochs} epochs of pretraining; buffer "
        f"rule {task.buffer}"
    )


def _constant(plans: Sequence[Chosen]) -> str:
    """List the decisions that all plans which learn by descent share."""
    mine = [each.plan for each in plans if each.plan.head == "sgd" and not each.reference]
    left_out = {"head", "policy"}
    left_out |= {name for name in LEARNING_CHOICES if not any(counts(plan, name) for plan in mine)}
    shared = [
        f"{name} {getattr(mine[0], name)}"
        for name in LEARNING_CHOICES
        if mine and name not in left_out and len({getattr(plan, name) for plan in mine}) == 1
    ]
    return ", ".join(shared)


# --- numbers ---


def _where(row: Row) -> str:
    return str(row["boards"]).replace("; ", ", ") or str(row["network"])


def _percent(fraction: float) -> str:
    return f"{fraction * POINTS:.2f} %" if math.isfinite(fraction) else "-"


def _points(fraction: float) -> str:
    return f"{fraction * POINTS:.2f}" if math.isfinite(fraction) else "-"


def _share(fraction: float) -> str:
    return f"{fraction:.0%}" if math.isfinite(fraction) else "-"


def _number(value: float) -> float:
    return value if math.isfinite(value) else -1.0


def _interval(found: Interval, scale: float = 1.0) -> str:
    if not math.isfinite(found.value):
        return NOT_ENOUGH
    value = f"{found.value * scale:.2f}"
    if not math.isfinite(found.low):
        return value
    return f"{value} ({found.low * scale:.2f} .. {found.high * scale:.2f})"
