"""A contribution analysis as files: contributions.csv, runs.csv, joint.csv, a report and figures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dse.files import atomic_path
from dse.report.text import markdown
from dse.search.schemes.contributions import CLIPPED, COLLAPSED, csv_text
from dse.search.schemes.correction import LEAST_RUNS
from dse.units import human_bytes
from dse.validation.contribute import BIAS, CLASSIFIER, PARTS, WEIGHT
from dse.validation.contribute_rates import SEEDS
from dse.validation.contribute_table import (
    ADDITIVE,
    MEASURED,
    POINTS,
    PUBLISHED,
    ContributionTable,
    Gain,
)

CONTRIBUTIONS, RUNS, JOINT, UNITS, REPORT = (
    "contributions.csv", "runs.csv", "joint.csv", "fisher.csv", "report.md",
)  # fmt: skip
JOINT_COLUMNS: Final = ("scheme", "sum_pct", "joint_gain_pct", "half_width_pct", "seeds")
PLATEAU: Final = 0.9
"""Share of the largest gain of biases from which on more of them count as adding little."""

RATE_CHOICE: Final = (
    f"Of several, each was chosen on validation samples, with {len(SEEDS)} seeds that no gain is measured "
    "on. The largest is tried and never taken; of the others those count that collapse in no run, first "
    "of all those whose next larger one does not either. Where there is none, it is the lowest."
)
OWN_RATE: Final = (
    "Biases and weights learn at one rate; gains of biases are over the classifier at its own best rate."
)
SAME_RATE: Final = "The classifier alone, which gains are counted from, learns at the rate of the parts."
LISTED: Final = 10
DIGITS: Final = 10
"""Significant digits of gains in files: differences of shares of samples carry rounding beyond."""


def write_analysis(table: ContributionTable, folder: Path) -> ContributionTable:
    """Write what ``table`` holds into ``folder``, each file atomically; return it with its folder."""
    from dse.report.figures import save_all
    from dse.report.figures.contributions import contribution_figure, joint_figure

    (folder / "figures").mkdir(parents=True, exist_ok=True)
    _write(folder / CONTRIBUTIONS, csv_text(rounded(table).contributions))
    for name, rows in ((RUNS, table.runs), (UNITS, table.units)):
        if rows:
            _write(folder / name, _csv(rows, list(rows[0])))
    if table.joint or table.joint_asked:  # without a row too: what an earlier call wrote no longer holds
        _write(folder / JOINT, _csv(joint_rows(table), JOINT_COLUMNS))
    save_all(contribution_figure(table), folder / "figures" / "contributions")
    if table.joint:
        save_all(joint_figure(table), folder / "figures" / "joint")
    _write(folder / REPORT, report_text(table))
    return replace(table, folder=folder)


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.{DIGITS}g}"
    return value


def rounded(table: ContributionTable) -> ContributionTable:
    """Return ``table`` with gains as files show them."""
    return replace(
        table, gains=tuple(replace(gain, gain=float(f"{gain.gain:.{DIGITS}g}")) for gain in table.gains)
    )


def joint_rows(table: ContributionTable) -> list[dict[str, Any]]:
    """Return a row per scheme that was trained as a whole, under ``JOINT_COLUMNS``."""
    values = (
        (each.scheme.text, each.sum_pct, each.gain_pct, each.half_pct, each.seeds) for each in table.joint
    )
    return [dict(zip(JOINT_COLUMNS, row, strict=True)) for row in values]


# --- the report ---


def report_text(table: ContributionTable) -> str:
    """Return the report as Markdown."""
    known = {MEASURED: "measured by training runs", PUBLISHED: "as published"}
    how = known.get(table.method, "read off Fisher information")
    lines = [
        f"# Contributions: {table.workload.name} on {table.dataset}", "",
        *([f"**{table.warning}**", ""] if table.warning else []),
        f"Gains in {table.unit}, {how}. {table.setting}".rstrip(), "",
        "![gains and memory](figures/contributions.png)", "", *_sentences(table), "",
    ]  # fmt: skip
    lines += ["## Layers that gain most", "", best_table(table), ""]
    if table.joint or table.joint_asked:
        lines += ["## Trained together", "", joint_sentence(table), ""]
    if table.joint:
        lines += ["![joint](figures/joint.png)", "", _joint_table(table), ""]
    if table.rates:
        over = OWN_RATE if CLASSIFIER in table.rates else SAME_RATE
        lines += [f"Learning rates: {rates_text(table.rates)}. {over} {RATE_CHOICE}", ""]
    return "\n".join(lines)


def rates_text(rates: Mapping[str, float]) -> str:
    """Return the rate of the classifier alone, and that of all parts."""
    names = {PARTS: "biases, weights and whole schemes"}
    return ", ".join(f"{names.get(kind, kind)} {rate:g}" for kind, rate in rates.items())


def _sentences(table: ContributionTable) -> list[str]:
    found = [_bias_sentence(table), _weight_sentence(table), collapse_sentence(table)]
    if any(gain.quality == CLIPPED for gain in table.gains):
        found.append("Triangles at the lower edge: below the axis of the source, no figure.")
    if table.unit == POINTS:
        found.append(ADDITIVE)
    return [f"- {sentence}" for sentence in (*found, *table.facts) if sentence]


def collapse_sentence(table: ContributionTable) -> str:
    """Return how many gains have no figure since runs collapsed, and whose runs; empty where all have one."""
    lost = [gain.part for gain in table.gains if gain.quality == COLLAPSED and math.isnan(gain.gain)]
    if not lost:
        return ""
    own = {
        (row["kind"], row["k_or_layer_idx"], row["ratio"] or 0.0) for row in table.runs if row["collapsed"]
    }
    count = sum(part in own for part in lost)
    split = f" (for {count} its own, for {len(lost) - count} only the latter)" if table.runs else ""
    return (
        f"{len(lost)} of {len(table.gains)} parts have no figure: a run of the part, or of what it is "
        f"counted over, collapsed{split}. Crosses at the lower edge; `dse select` does not offer them."
    )


def _bias_sentence(table: ContributionTable) -> str:
    gains = [gain for gain in table.of(BIAS) if gain.part.number and not math.isnan(gain.gain)]
    if not gains:
        return ""
    best = max(gains, key=lambda gain: gain.gain)
    if best.gain <= 0:
        return f"Biases gain nothing; the least is lost at k = {best.part.number}: {_value(best, table)}."
    enough = next(gain for gain in gains if gain.gain >= PLATEAU * best.gain)
    most = f"Biases gain most at k = {best.part.number}: {_value(best, table)}"
    if enough is best:
        return f"{most}, with {human_bytes(best.extra_bytes)} of extra memory."
    return (
        f"{most}; k = {enough.part.number} reaches {PLATEAU:.0%} of that with "
        f"{human_bytes(enough.extra_bytes)} of extra memory instead of {human_bytes(best.extra_bytes)}."
    )


def _weight_sentence(table: ContributionTable) -> str:
    gains = [gain for gain in table.gains if gain.part.kind == WEIGHT and not math.isnan(gain.gain)]
    if not gains or table.unit != POINTS:
        return ""
    known = [gain for gain in gains if not math.isnan(gain.half)]
    above = sum(gain.gain - gain.half > 0 for gain in known)
    below = sum(gain.gain + gain.half < 0 for gain in known)
    if not known:
        return f"Of {len(gains)} gains of weights {sum(gain.gain > 0 for gain in gains)} are above 0."
    return (
        f"Of {len(known)} gains of weights {above} are above 0 and {below} below, by their 90 % intervals; "
        f"the runs cannot tell the other {len(known) - above - below} from 0. About one in ten would seem to "
        "differ by chance alone."
    )


def best_table(table: ContributionTable, most: int = LISTED) -> str:
    """Return the best ratio of each of the ``most`` layers that gain most, as a table."""
    names = [unit.name for unit in table.workload.units]
    best: dict[int, Gain] = {}
    for gain in sorted(table.gains, key=lambda gain: -gain.gain if not math.isnan(gain.gain) else math.inf):
        if gain.part.kind == WEIGHT and not math.isnan(gain.gain):
            best.setdefault(gain.part.number, gain)
    rows = [
        [unit, names[unit], f"{gain.part.ratio:g}", _value(gain, table), human_bytes(gain.extra_bytes),
         gain.quality]
        for unit, gain in list(best.items())[:most]
    ]  # fmt: skip
    head = "gain (points)" if table.unit == POINTS else "share (%)"
    return markdown(["unit", "layer", "ratio", head, "extra memory", "quality"], rows)


def _value(gain: Gain, table: ContributionTable) -> str:
    half = "" if math.isnan(gain.half) else f" ± {gain.half:.2f}"
    return f"{gain.gain:+.2f}{half}" if table.unit == POINTS else f"{gain.gain:.2f}{half}"


def joint_sentence(table: ContributionTable) -> str:
    """Return how far gains add up, the slope through 0 of joint gains over sums, and what is left out."""
    lost = ", ".join(f"{scheme} ({count})" for scheme, count in table.joint_collapsed.items())
    left_out = f"Left out of `{JOINT}`, since runs collapsed (how many): {lost}." if lost else ""
    if not table.joint:
        return (
            left_out or "No scheme was trained as a whole: no sum of several parts on the front is above 0."
        )
    square = sum(each.sum_pct**2 for each in table.joint)
    slope = sum(each.sum_pct * each.gain_pct for each in table.joint) / square if square else math.nan
    return (
        f"{len(table.joint)} schemes trained together gain {slope:.2f} of the sum of their parts (slope "
        f"through 0){_onwards(table)}. {left_out}".rstrip()
    )


def _onwards(table: ContributionTable) -> str:
    few = len(table.joint) < LEAST_RUNS
    return "" if few else f"; `dse select --correction {JOINT}` takes it from there"


def _joint_table(table: ContributionTable) -> str:
    rows = [
        [each.scheme.text, f"{each.sum_pct:+.2f}", f"{each.gain_pct:+.2f}",
         "" if math.isnan(each.half_pct) else f"{each.half_pct:.2f}"]
        for each in table.joint
    ]  # fmt: skip
    return markdown(["scheme", "sum (points)", "gain together (points)", "half width"], rows)


def outcome_text(table: ContributionTable) -> str:
    """Return what the command line shows: what the contributions say, and the best layers.

    A warning stands on a line of its own, before everything else.
    """
    lines = [*([table.warning, ""] if table.warning else []), *_sentences(table), "", best_table(table)]
    return "\n".join([*lines, "", joint_sentence(table)] if table.joint or table.joint_asked else lines)
