"""A selection of sparse-update schemes as text and as files: fronts, policies, a report and a figure."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from dse.files import atomic_folder
from dse.report.document import slug
from dse.report.text import markdown, plural, table, wrapped
from dse.search.schemes.contributions import csv_text
from dse.search.schemes.correction import Correction
from dse.search.schemes.memory import MEMORIES, price_totals
from dse.search.schemes.published import published_schemes
from dse.search.schemes.selection import KIB, Selection
from dse.search.schemes.space import STEPS_PER_POINT, Scheme

SHOWN: Final = 12
"""Points of a front in a table, spread over its memory."""

PACKAGES: Final = ("numpy", "pandas", "moocore", "matplotlib")


@dataclass(frozen=True)
class Named:
    """A scheme with a name of its own: sum of contributions [points], and both memories [B]."""

    name: str
    scheme: Scheme
    sum_pct: float
    bytes: dict[str, int]


def named_schemes(selection: Selection) -> tuple[Named, ...]:
    """Return the published schemes of the network that are among those of ``selection``."""
    space, found = selection.space, []
    for name, scheme in published_schemes(space.workload).items():
        measured = scheme.last_biases in space.counts and set(scheme.choices) <= set(space.choices)
        if measured and len(scheme.choices) <= space.layers:
            sizes = {each: int(values[0]) for each, values in price_totals(space, [scheme]).items()}
            found.append(Named(name, scheme, space.gain(scheme) / STEPS_PER_POINT, sizes))
    return tuple(found)


# --- text ---


def selection_text(selection: Selection) -> str:
    """Return the selection for a terminal: each front, what is chosen, and what the gains are."""
    blocks = [heading(selection)]
    for name in selection.fronts:
        header, rows = front_rows(selection, name)
        blocks.append(f"{front_title(selection, name)}\n{table(header, rows, indent='  ')}")
    blocks += chosen_lines(selection)
    return "\n\n".join([*blocks, "\n".join(wrapped(line) for line in notes(selection))])


def heading(selection: Selection) -> str:
    """Say what was chosen from."""
    space = selection.space
    offered = (
        f"{space.workload.name} on {space.contributions.dataset}: {space.size:,} schemes of k = "
        f"{min(space.counts)} to {max(space.counts)} and at most {plural(space.layers, 'weight layer')}"
    )
    left = f"; {plural(len(space.left_out), 'part')} not offered" if space.left_out else ""
    return offered + left


def front_title(selection: Selection, name: str) -> str:
    """Say what a front is by, how long it is, and that it is whole."""
    front = selection.fronts[name]
    return (
        f"Front by {MEMORIES[name].title}: {plural(len(front), 'scheme')}, proven optimal by "
        f"{front.proof.explored:,} partial schemes"
    )


def front_rows(selection: Selection, name: str, most: int = SHOWN) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of up to ``most`` points, spread over the memory of the front, ends included."""
    sizes = selection.fronts[name].memory_bytes
    spread = np.searchsorted(sizes, np.linspace(sizes[0], sizes[-1], most), side="right") - 1
    chosen = selection.chosen.get(name)
    places = sorted({*spread.tolist(), *(() if chosen is None else (chosen,))})
    columns = selection.columns(name)
    joint = ["joint"] if selection.correction else []
    rows = [
        [
            "*" if place == chosen else " ", *(_kib(columns[column][place]) for column in BYTES),
            f"{columns['sum_pct'][place]:.2f}", *([f"{columns['joint_pct'][place]:.1f}"] if joint else []),
            columns["policy"][place],
        ]
        for place in places
    ]  # fmt: skip
    return [" ", "extra KiB", "peak KiB", "sum", *joint, "policy"], rows


BYTES: Final = tuple(f"{name.replace('-', '_')}_bytes" for name in MEMORIES)


def _kib(size: float) -> str:
    return f"{size / KIB:.2f}"


def chosen_lines(selection: Selection) -> list[str]:
    """Return a block for each memory: the best scheme within the budget, or how much is missing."""
    budget = selection.budget_bytes
    if budget is None:
        return []
    lines = []
    for name, front in selection.fronts.items():
        place = selection.chosen.get(name)
        title = f"Best within {_kib(budget)} KiB of {MEMORIES[name].title}:"
        if place is None:
            lines.append(f"{title}\n  none; the classifier alone takes {_kib(front.memory_bytes[0])} KiB")
            continue
        columns = selection.columns(name)
        sizes = ", ".join(
            f"{label} {_kib(columns[column][place])} KiB"
            for label, column in zip(MEMORIES, BYTES, strict=True)
        )
        gain = (
            f"sum of contributions {columns['sum_pct'][place]:.2f} {selection.unit}{_joint(columns, place)}"
        )
        lines.append(f"{title}\n  {columns['policy'][place]}\n  {sizes}; {gain}")
    return lines


def _joint(columns: dict[str, Any], place: int) -> str:
    if "joint_pct" not in columns:
        return ""
    low, high = columns["joint_mean_low_pct"][place], columns["joint_mean_high_pct"][place]
    interval = "" if np.isnan(low) else f" (90 % interval of the mean: {low:.1f} to {high:.1f})"
    return f", trained together {columns['joint_pct'][place]:.1f}{interval}"


def notes(selection: Selection) -> Iterator[str]:
    """Yield what a reader has to know about the figures."""
    yield selection.meaning
    if selection.space.contributions.shares:
        return
    if selection.correction is None:
        yield "Measured together, gains of MCUNet-5FPS are about 2/3 of their sum (arXiv 2206.15472)."
    else:
        yield correction_text(selection.correction)


def correction_text(correction: Correction) -> str:
    """Say what a correction is, where it comes from, and that it leaves the order alone."""
    form = (
        f"{correction.parameters[0]:.3g} x sum"
        if correction.form == "line"
        else f"{correction.parameters[0]:.3g} (1 - exp(-sum / {correction.parameters[1]:.3g}))"
    )
    errors = ", ".join(f"{name} {error:.2g}" for name, error in correction.errors_pct)
    runs = f", {plural(len(correction.runs), 'joint scheme')}" if correction.runs else ""
    missed = f"; a left-out run is missed by (points): {errors}" if errors else ""
    interval = " Its interval is of the mean; a single scheme scatters more." if correction.covariance else ""
    return (
        f"Trained together: {form} ({correction.source}{runs}{missed}). It rises with the sum, so that it "
        f"changes the gain that is predicted and no scheme on a front.{interval}"
    )


# --- files ---


def selection_folder_name(selection: Selection) -> str:
    """Return ``select-<network>-<hash of everything that determines the content>``."""
    return f"select-{slug(selection.space.workload.name)}-{_digest(selection)[:10]}"


def _digest(selection: Selection) -> str:
    space, correction = selection.space, selection.correction
    content = [
        version("tinyml-dse"), space.workload.content_hash, space.contributions.rows(), repr(space.plan),
        space.layers, list(selection.fronts), selection.budget_bytes, repr(correction),
        [[name, front.memory_bytes.tolist()] for name, front in selection.fronts.items()],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_selection(selection: Selection, folder: Path) -> Path:
    """Write everything about a selection into ``folder``, which appears complete or not at all."""
    import pandas as pd

    from dse.report.figures import save_all
    from dse.report.figures.selection import selection_figure

    with atomic_folder(folder) as partial:
        for name in selection.fronts:
            frame = pd.DataFrame(selection.columns(name))
            frame.to_csv(partial / f"front-{name}.csv", index=False, lineterminator="\n")
        texts = {
            "contributions.csv": csv_text(selection.space.contributions),
            "policies.toml": policies_text(selection),
            "selection.md": report_text(selection),
            "run.json": json.dumps(provenance(selection), indent=2, ensure_ascii=False) + "\n",
        }
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8", newline="\n")
        (partial / "figures").mkdir()
        save_all(selection_figure(selection, named_schemes(selection)), partial / "figures" / "fronts")
    return folder


def policies_text(selection: Selection) -> str:
    """Return the front schemes as lines of a space file: the table ``choices`` with every policy once."""
    lines = [
        f"# Sparse-update schemes of {selection.space.workload.name} on a front of `dse select`.",
        "# Take what you like into the table [choices] of a space file for `dse explore`.",
        "[choices]", "policy = [",
    ]  # fmt: skip
    seen: dict[str, str] = {}
    for name in selection.fronts:
        columns = selection.columns(name)
        for place, policy in enumerate(columns["policy"]):
            sizes = ", ".join(
                f"{label} {_kib(columns[column][place])} KiB"
                for label, column in zip(MEMORIES, BYTES, strict=True)
            )
            seen.setdefault(policy, f"{columns['sum_pct'][place]:.2f} {selection.unit}, {sizes}")
    lines += [f'  "{policy}",  # {said}' for policy, said in seen.items()]
    return "\n".join([*lines, "]", ""])


def report_text(selection: Selection) -> str:
    """Return the selection as Markdown."""
    lines = [f"# Sparse-update schemes of {selection.space.workload.name}", "", heading(selection) + ".", ""]
    lines += ["![fronts](figures/fronts.png)", "", *notes(selection), ""]
    for block in chosen_lines(selection):
        lines += [line.strip() + "  " for line in block.splitlines()] + [""]
    for name in selection.fronts:
        lines += [f"## {front_title(selection, name)}", "", markdown(*front_rows(selection, name)), ""]
    named = named_schemes(selection)
    if named:
        lines += ["## Published schemes", "", markdown(*named_rows(selection, named)), ""]
    if selection.space.left_out:
        lines += ["## Not offered", ""]
        lines += [f"- {_what(key)}: {why}" for key, why in selection.space.left_out.items()] + [""]
    return "\n".join(lines)


def named_rows(selection: Selection, named: tuple[Named, ...]) -> tuple[list[str], list[list[str]]]:
    """Return published schemes beside the optimum in the same memory, for every front."""
    header = ["scheme", "policy", "sum", *(f"{name} KiB" for name in MEMORIES)]
    header += [f"best sum at its {name}" for name in selection.fronts]
    rows = []
    for each in named:
        best = [
            f"{front.gain_pct[front.within(each.bytes[name])]:.2f}"
            for name, front in selection.fronts.items()
        ]
        sizes = [_kib(each.bytes[name]) for name in MEMORIES]
        rows.append([each.name, each.scheme.text, f"{each.sum_pct:.2f}", *sizes, *best])
    return header, rows


def _what(key: Any) -> str:
    return f"unit {key[0]} at ratio {key[1]:g}" if isinstance(key, tuple) else f"the last {key} biases"


def provenance(selection: Selection) -> dict[str, Any]:
    """Return the content of run.json: versions, inputs, and how each front was proven. No clock, no paths."""
    space, correction = selection.space, selection.correction
    return {
        "network": space.workload.name,
        "network_sha256": space.workload.content_hash,
        "contributions_sha256": hashlib.sha256(csv_text(space.contributions).encode()).hexdigest(),
        "versions": {
            "dse": version("tinyml-dse"), "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "plan": {name: value for name, value in vars(space.plan).items() if name != "policy"},
        "weight_layers": space.layers,
        "budget_bytes": selection.budget_bytes,
        "fronts": {
            name: {"points": len(front), **vars(front.proof)} for name, front in selection.fronts.items()
        },
        "correction": None if correction is None else correction_text(correction),
        "additive": selection.meaning,
    }  # fmt: skip
