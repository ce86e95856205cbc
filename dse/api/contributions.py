"""Contribution analysis: measured by training runs, read off Fisher information, or taken as published."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from dse.api.plans import decide, decisions_of, plan_file
from dse.api.validation import task_file
from dse.errors import Problem, UserError
from dse.files import require_new_folder
from dse.hardware import list_boards, load_board
from dse.plan.decisions import TrainingPlan
from dse.plan.learning_key import learning_content
from dse.report.contributions import write_analysis
from dse.report.document import slug
from dse.search.reader import Reader, is_integer, shown
from dse.search.schemes.contributions import read_contributions
from dse.training import Task, require_torch
from dse.training.data import Dataset, load_data
from dse.training.executable import unexecuted
from dse.validation.contribute import Analysis
from dse.validation.contribute_fisher import METHODS, MOST_SAMPLES, SAMPLES, fisher_table
from dse.validation.contribute_read import ALL_BIASES, EVERY, read_analysis
from dse.validation.contribute_run import Announce, run_analysis
from dse.validation.contribute_table import MEASURED, POINTS, PUBLISHED, SHARE, ContributionTable, table_of
from dse.validation.store import RunStore
from dse.validation.validate import Stages
from dse.workload import Workload, load_network
from dse.workload.forward_only import require_executed

RATES: Final = (0.03, 0.1, 0.3)
"""Learning rates that are tried where the task says none; the largest is never taken."""

RUNS: Final = "runs"
PLAN: Final[dict[str, Any]] = {
    "cut": "input", "policy": "all", "replay": "none", "replay_bits": 32, "frozen_bits": 32, "batch": (16, 0),
    "micro_batch": "batch", "new_samples": "recompute", "epochs": 4, "images_per_event": 16,
}  # fmt: skip
"""Decisions of the plan where the user says nothing: plain SGD on small batches, in fp32, nothing stored."""

_BOARD: Final = "nothing: it belongs to a board, a training run has none"
NOT_HERE: Final = {
    "operating_point": _BOARD, "sleep_state": _BOARD, "replay_level": _BOARD,
    "policy": "nothing: the analysis says what learns",
}  # fmt: skip
"""Decisions that a plan may not hold here."""

Made = TypeVar("Made")


def contribute(
    network: str | Path | Workload,
    out: str | Path | None = "runs",
    *,
    task: Task | Mapping[str, Any] | str | Path | None = None,
    plan: TrainingPlan | str | Path | None = None,
    ks: Sequence[int] | str | None = None,
    units: Sequence[int | str] | None = None,
    ratios: Sequence[float] | None = None,
    rates: Sequence[float] | None = None,
    seeds: int = 3,
    over: str | int = ALL_BIASES,
    learns: str = "joint",
    joint: int = 0,
    method: str = MEASURED,
    samples: int = SAMPLES,
    published: str | Path | None = None,
    workers: int = 0,
    progress: Stages | None = None,
    announce: Announce | None = None,
    **decisions: Any,
) -> ContributionTable:
    """Return what training the last k biases, and single layers' weights at each ratio, gains.

    A run starts from the network pretrained on the first classes of the task. ``learns="joint"`` then trains
    on all classes at once, as transfer to a new task does; ``"stream"`` follows the task's experiences.

    Parameters
    ----------
    network: a name, a path, or a loaded network that takes the data.
    out: the run folder is made in it; runs that it holds are not run again. Its tables hold what was asked
        last, not all runs. None: nothing is kept.
    task: a ``Task``, its table, a TOML file with a table [task], or the name of a data set.
    plan, decisions: how each scheme is trained, in the words of a plan file; policy and cut follow from the
        scheme, unless the plan stores latents or quantises below its cut: then nothing below that learns.
    ks, units, ratios: what is trained; defaults: eight k from 0 to all, every layer, 0.25, 0.5 and 1.
        ``ks="all"`` takes every k, no units leave weights out.
    rates: learning rates to choose from; else the task's. Biases, weights and whole schemes learn at one of
        them, the classifier alone at its own best: gains of biases are over that. (With ``over`` no biases
        all learn at one.) Of several, the largest only shows whether the next one keeps away from collapse,
        and is never taken.
    seeds: paired runs of each.
    over: what weights are trained with, and their gain is counted from: "biases" (all; the bias-only update
        of arXiv 2206.15472), "classifier", or a number of last biases.
    joint: number of schemes that are trained as a whole afterwards.
    method: "measure", "fisher" (weights and biases) or "fisher-activations" (TinyTrain): one extra
        backward pass instead of runs, in percent of all Fisher information.
    samples: samples of the extra pass.
    published: a published set or a CSV file that takes the place of all runs.
    workers: training processes; 0: one per core.
    progress, announce: see ``run_analysis``.

    A gain has no figure (NaN) where a run of the part, or of what it is counted over, collapsed; ``warning``
    of the table says where the latter did. Raises UserError with every problem.

    """
    if published is not None:
        workload = network if isinstance(network, Workload) else load_network(network)
        require_executed(workload, "contributions of its layers")
        read = read_contributions(published, workload)
        table = table_of(read, workload, unit=SHARE if read.shares else POINTS)
        return _written(table, out, [workload.content_hash, PUBLISHED, table.contributions.rows()])
    require_torch()
    asked = {
        "ks": ks, "units": units, "ratios": ratios, "seeds": seeds, "over": over, "learns": learns,
        "joint": joint,
    }  # fmt: skip
    analysis = _analysis(network, _Given(task, rates, plan, decisions, method, samples), asked)
    if method != MEASURED:
        table = fisher_table(analysis, method, samples, progress("Fisher information") if progress else None)
        return _written(table, out, [*_content(analysis), method, samples])
    with _store(out, analysis) as store:
        table = run_analysis(analysis, store, workers=workers, progress=progress, announce=announce)
    return _written(table, out, _content(analysis))


@dataclass(frozen=True)
class _Given:
    """What a user gives about how to train, as it was given."""

    task: Task | Mapping[str, Any] | str | Path | None
    rates: Sequence[float] | None
    plan: TrainingPlan | str | Path | None
    decisions: Mapping[str, Any]
    method: str
    samples: Any


def _analysis(network: str | Path | Workload, given: _Given, asked: Mapping[str, Any]) -> Analysis:
    """Return what is to be analysed; raise UserError with every problem of every part of it."""
    problems: list[Problem] = []

    def tried(make: Callable[..., Made], *arguments: Any, **options: Any) -> Made | None:
        try:
            return make(*arguments, **options)
        except UserError as error:
            problems.extend(error.problems)
            return None

    workload = network if isinstance(network, Workload) else tried(load_network, network)
    task = tried(_task, given.task, given.rates)
    dataset = tried(load_data, task.data, file="task", folder=task.folder or None) if task else None
    tried(_require_method, given)
    if workload is not None:
        tried(require_executed, workload, "training")
    if workload is not None and dataset is not None:
        tried(_require_fit, workload, dataset)
    plan = tried(_plan, workload, given, _event(task or Task(), asked["learns"])) if workload else None
    if plan is not None and given.method == MEASURED:
        problems.extend(unexecuted(plan))
    found = None
    if workload is not None and plan is not None:
        every = given.method in METHODS and asked["ks"] is None  # no run, no reason to leave one out
        ks = EVERY if every else asked["ks"]
        found = tried(read_analysis, workload, task or Task(), plan, **{**asked, "ks": ks})
    if problems or found is None or dataset is None:
        raise UserError(dict.fromkeys(problems))
    return replace(found, data_hash=dataset.content_hash, dataset=dataset.name)


def _task(task: Task | Mapping[str, Any] | str | Path | None, rates: Sequence[float] | None) -> Task:
    """Return the task; where only its data are named, with the learning rates of this module."""
    if isinstance(task, Task | Mapping):
        found = task if isinstance(task, Task) else Task.from_dict(task)
    elif task is not None and str(task).endswith(".toml"):
        found = task_file(Path(task))
    else:
        found = Task(data="shapes" if task is None else str(task), rates=RATES)
    return found if rates is None else replace(found, rates=tuple(rates))


def _require_method(given: _Given) -> None:
    reader, known = Reader("contribute"), (MEASURED, *METHODS)
    if given.method not in known:
        reader.unknown("method", "method", given.method, known)
    if not is_integer(given.samples) or not 1 <= given.samples <= MOST_SAMPLES:
        reader.wrong("samples", shown(given.samples), f"an integer from 1 to {MOST_SAMPLES}")
    reader.raise_problems()


def _require_fit(workload: Workload, dataset: Dataset) -> None:
    from dse.training.setting import require_fit

    require_fit(workload, dataset)


def _event(task: Task, learns: Any) -> dict[str, Any]:
    """Return how many images an event brings: in a stream all of a class-incremental experience."""
    images = task.step * task.per_class if learns == "stream" and task.stream == "new_classes" else 0
    return {"images_per_event": images} if images else {}


def _plan(workload: Workload, given: _Given, event: Mapping[str, Any]) -> TrainingPlan:
    """Return how every scheme is trained: the defaults, the plan that was given, single decisions on top."""
    file = "plan" if given.plan is None or isinstance(given.plan, TrainingPlan) else str(given.plan)
    if isinstance(given.plan, TrainingPlan):
        own = decisions_of(given.plan)
        own.pop("policy")
        own.pop("replay_level")
    else:
        own = {} if given.plan is None else plan_file(given.plan)
    own |= given.decisions
    reader = Reader(file)
    for name in NOT_HERE.keys() & own.keys():
        reader.wrong(name, shown(own[name]), NOT_HERE[name])
    if own.get("head", "sgd") != "sgd":
        reader.wrong("head", shown(own["head"]), "sgd: a head trains no layer below the classifier")
    reader.raise_problems()
    board = load_board(list_boards()[0])  # any: a training run has none
    return decide(workload, board, {**PLAN, **event, **own}, file=file).plan


def _content(analysis: Analysis) -> list[Any]:
    """Return what decides every single run: asking for other parts or seeds goes on in the same folder."""
    task, plan = analysis.task, analysis.plan
    return [
        analysis.workload.training_hash, task.content(), task.rates, analysis.data_hash,
        learning_content(analysis.workload, plan), analysis.over, analysis.learns,
    ]  # fmt: skip


def _folder(out: str | Path, workload: Workload, content: Any) -> Path:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:10]
    return require_new_folder(Path(out) / f"contribute-{slug(workload.name)}-{digest}")


@contextmanager
def _store(out: str | Path | None, analysis: Analysis) -> Iterator[RunStore]:
    """Give the place of the runs, in the run folder or for the time of the call."""
    if out is not None:
        yield RunStore(_folder(out, analysis.workload, _content(analysis)) / RUNS)
        return
    with TemporaryDirectory() as temporary:
        yield RunStore(temporary)


def _written(table: ContributionTable, out: str | Path | None, content: Any) -> ContributionTable:
    return table if out is None else write_analysis(table, _folder(out, table.workload, content))
