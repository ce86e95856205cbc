"""A study: grids of plans on one task, every plan with the same seeds, and the claims that they decide."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any, Final

from dse.cost.model import illegal
from dse.errors import Problem, UserError
from dse.plan.decisions import CODES, INT8_NEUTRAL, PlanBatch, TrainingPlan
from dse.plan.learning_key import LEARNING_CHOICES, learning_key
from dse.plan.policy import UpdatePolicy
from dse.search.choices import DECISIONS, WHOLE_BATCH, Choices, cuts_of, read_choices
from dse.search.reader import Reader, is_integer, shown
from dse.training.task import REFERENCES, Job, Task
from dse.validation.claims import Claim, plain_reference, read_claims, require_plans
from dse.validation.rates import RateSearch, scheme_of
from dse.workload import Workload, load_network

KEYS: Final = (
    "name", "title", "question", "network", "seeds", "split", "task", "common", "grids", "claims", "figure",
)  # fmt: skip
COLUMNS: Final = (
    "head", "replay", "cut", "policy", "n_replays", "replay_bits", "rounding", "frozen_bits", "bn_mode",
    "optimiser", "new_per_batch", "replays_per_batch", "micro_batch", "epochs", "images_per_event",
    "learning_dtype", *INT8_NEUTRAL, "saved_bits",
)  # fmt: skip
"""Decisions that stand in the table of a study."""

_FIGURE: Final = ("x", "series", "panel", "grids")
MOST_PLANS: Final = 5_000
MOST_SEEDS: Final = 1_000
LARGEST_FILE: Final = 1 << 20  # bytes


@dataclass(frozen=True)
class GridPlan:
    """One plan of a grid, or a reference run beside it."""

    grid: str
    plan: TrainingPlan
    reference: str = ""


@dataclass(frozen=True)
class Study:
    """What is run and what is asked of it; ``figure`` says what to draw over what."""

    name: str
    title: str
    question: str
    workload: Workload
    task: Task
    seeds: int
    plans: tuple[GridPlan, ...]
    claims: tuple[Claim, ...]
    figure: Mapping[str, Any]

    def rates(self, data_hash: str) -> RateSearch:
        """Return the search for the learning rate of every scheme, on a seed that no other run has."""
        plans = [each.plan for each in self.plans]
        reference = plain_reference([plan_row(each) for each in self.plans])
        return RateSearch(self.workload, self.task, plans, RATE_SEED, data_hash, reference)

    def jobs(self, rates: Mapping[Any, float], data_hash: str) -> Iterator[tuple[GridPlan, Job]]:
        """Yield every run, seeds outermost, at the rate of its scheme."""
        for seed in range(self.seeds):
            for each in self.plans:
                rate = rates[scheme_of(self.workload, each.plan)]
                yield (
                    each,
                    Job(
                        self.workload,
                        each.plan,
                        self.task,
                        seed,
                        rate,
                        reference=each.reference,
                        data_hash=data_hash,
                    ),
                )


RATE_SEED: Final = 900_000
"""Seed of the runs that choose learning rates: none of those that are reported."""


def list_studies() -> tuple[str, ...]:
    """Return the names of the studies that come with the program."""
    folder = files("dse") / "studies"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_study(name_or_path: str | Path, *, data: str | None = None, seeds: int | None = None) -> Study:
    """Read a study by name or from a TOML file; raises UserError with every problem.

    ``data`` replaces the path of the data set, ``seeds`` the number of seeds.
    """
    name = str(name_or_path)
    if name in list_studies():
        text = (files("dse") / "studies" / f"{name}.toml").read_text(encoding="utf-8")
        file, folder = f"{name}.toml", None
    else:
        text, file, folder = _text(name), name, Path(name).parent
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(Problem(file, "", f"not TOML: {error}", "see toml.io")) from None
    return _read(Reader(file), table, folder, data, seeds)


def _text(name: str) -> str:
    path = Path(name)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(Problem(name, "", f"{path.stat().st_size} bytes", f"at most {LARGEST_FILE}"))
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        known = ", ".join(list_studies())
        allowed = f"a TOML file that describes a study, or one of: {known}"
        raise UserError(Problem(name, "", f"cannot be read: {reason}", allowed)) from None


def _read(
    reader: Reader, table: Mapping[str, Any], folder: Path | None, data: str | None, seeds: int | None
) -> Study:
    reader.known_keys(table, KEYS)
    if seeds is not None:
        table = {**table, "seeds": seeds}
    workload = _network(reader, table)
    task = _task(reader, table, folder, data)
    count = table.get("seeds", 3)
    if not is_integer(count) or not 1 <= count <= MOST_SEEDS:
        reader.wrong("seeds", shown(count), f"an integer from 1 to {MOST_SEEDS}")
    figure = reader.table(table, "figure")
    reader.known_keys(figure, _FIGURE, "figure")
    plans = _plans(reader, table, workload) if workload is not None else ()
    claims = read_claims(reader, table.get("claims", []))
    if not reader.problems:
        rows = [plan_row(each) for each in plans]
        require_plans(reader, claims, rows)
        _require_figure(reader, figure, rows)
    reader.raise_problems()
    assert workload is not None
    assert task is not None
    texts = {key: str(table.get(key, "")) for key in ("name", "title", "question")}
    return Study(
        workload=workload, task=task, seeds=count, plans=plans, claims=claims, figure=figure, **texts
    )


def plan_row(each: GridPlan) -> dict[str, Any]:
    """Return a plan as the columns that tables, claims and figures speak of."""
    row: dict[str, Any] = {"grid": each.grid, "reference": each.reference}
    row |= {name: getattr(each.plan, name) for name in COLUMNS}
    return row | {"policy": UpdatePolicy.parse(each.plan.policy).name}


def _require_figure(reader: Reader, figure: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a layout that names columns or grids which are not there."""
    for name in ("x", "series", "panel"):
        if name in figure and figure[name] not in (*rows[0], ""):
            reader.unknown(f"figure.{name}", "column", figure[name], rows[0])
    grids = list(dict.fromkeys(row["grid"] for row in rows))
    listed = figure.get("grids", grids)
    for number, grid in enumerate(listed if isinstance(listed, list) else [listed]):
        if grid not in grids:
            reader.unknown(f"figure.grids[{number}]", "grid", grid, grids)


def _network(reader: Reader, table: Mapping[str, Any]) -> Workload | None:
    try:
        return load_network(str(table.get("network", "")))
    except UserError as error:
        reader.adopt(error, "network")
        return None


def _task(reader: Reader, table: Mapping[str, Any], folder: Path | None, data: str | None) -> Task | None:
    given = dict(reader.table(table, "task"))
    if data is not None:
        spec = given.get("data", "")
        spec = dict(spec) if isinstance(spec, Mapping) else {"kind": spec}
        given["data"] = {**spec, "path": str(Path(data).absolute())}
    try:
        return Task.from_dict(given, file=reader.file, folder=folder)
    except UserError as error:
        reader.adopt(error, "task")
        return None


def _plans(reader: Reader, table: Mapping[str, Any], workload: Workload) -> tuple[GridPlan, ...]:
    common = reader.table(table, "common")
    listed = table.get("grids", [])
    if not isinstance(listed, list) or not listed:
        reader.wrong("grids", shown(listed), "at least one table [[grids]]")
        return ()
    found: list[GridPlan] = []
    for number, grid in enumerate(listed):
        key = f"grids[{number}]"
        if not isinstance(grid, Mapping):
            reader.wrong(key, shown(grid), "a table")
            continue
        choices = {name: value for name, value in grid.items() if name not in ("name", "references")}
        name = str(grid.get("name", number))
        inner = Reader(reader.file)
        plans = _grid(inner, {**common, **choices}, workload)
        reader.problems += [replace(each, key=each.key.replace("choices", key, 1)) for each in inner.problems]
        references = reader.values(
            f"{key}.references",
            grid.get("references", [""]),
            lambda where, value: _reference(reader, where, value),
        )
        found += [GridPlan(name, plan, reference) for plan in plans for reference in references]
    if len(found) > MOST_PLANS:
        reader.wrong("grids", f"{len(found)} plans", f"at most {MOST_PLANS}")
    return tuple(found)


def _reference(reader: Reader, key: str, value: Any) -> str | None:
    if value in REFERENCES:
        return str(value)
    reader.unknown(key, "reference", value, REFERENCES)
    return None


def _grid(reader: Reader, table: Mapping[str, Any], workload: Workload) -> Sequence[TrainingPlan]:
    """Return the distinct plans of a grid, in the order of its lists."""
    known = [name for name in DECISIONS if name in LEARNING_CHOICES or name == "batch"]
    reader.known_keys(table, known, "choices")
    choices = read_choices(reader, {name: value for name, value in table.items() if name in known})
    cuts = cuts_of(reader, workload, choices.values["cut"])
    if reader.problems:
        return ()
    plans: dict[str, TrainingPlan] = {}
    reasons: dict[str, int] = {}
    for plan in _product(choices, cuts):
        plan = plan.canonical(workload)
        for reason in illegal(workload, PlanBatch.from_plans(workload, [plan])):
            reasons[reason] = reasons.get(reason, 0) + 1
        plans.setdefault(learning_key(workload, plan), plan)
    for reason, count in reasons.items():
        reader.wrong("choices", f"{count} plans: {reason}", "plans that a device can execute")
    return list(plans.values())


def _product(choices: Choices, cuts: Sequence[int]) -> Iterator[TrainingPlan]:
    names = [
        name
        for name in LEARNING_CHOICES
        if name not in ("cut", "policy", "new_per_batch", "replays_per_batch")
    ]
    axes = [choices.values[name] for name in names]
    for cut, policy, batch, *values in product(cuts, choices.policies, choices.values["batch"], *axes):
        words = {
            name: CODES[name][value] if name in CODES else value
            for name, value in zip(names, values, strict=True)
        }
        micro = words.pop("micro_batch")
        whole = micro == WHOLE_BATCH or words["bn_mode"] == "batch_stats"
        yield TrainingPlan(
            cut=cut, policy=policy, new_per_batch=batch[0], replays_per_batch=batch[1],
            micro_batch=sum(batch) if whole else micro, **words,
        )  # fmt: skip
