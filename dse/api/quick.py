"""From a network alone to a space: what ``dse explore MODEL --board ...`` searches."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path, PurePath
from typing import Any, Final, TypeVar

from dse.api.explorations import accept_table, list_explorations
from dse.errors import Problem, UserError
from dse.hardware import list_boards, load_board
from dse.hardware.accept import read_accept
from dse.report.document import slug
from dse.search import Space
from dse.search.quick import BUDGETS, space_tables
from dse.search.space import read_tables
from dse.training.task import Task
from dse.workload import list_networks, load_network
from dse.workload.names import is_model_file, split_name

Made = TypeVar("Made")

LARGEST_FILE: Final = 1 << 20  # bytes


def is_network(name: str) -> bool:
    """Whether ``name`` means a network and no space: a model file, one that comes along, or its TOML."""
    own, _ = split_name(name)
    if name in list_explorations():
        return False
    return own in list_networks() or is_model_file(own) or (own.endswith(".toml") and _has_layers(Path(own)))


def _has_layers(path: Path) -> bool:
    with suppress(OSError, ValueError, RecursionError):
        if path.stat().st_size <= LARGEST_FILE:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
            return bool({"layers", "base"} & tables.keys())
    return False


def network_space(
    network: str,
    boards: Sequence[str],
    *,
    classes: int | None = None,
    budgets: Mapping[str, float] | None = None,
    duty: Mapping[str, float] | None = None,
    accept: Iterable[str] | Mapping[str, Any] = (),
    task: str | Path | None = None,
) -> Space:
    """Return a space for one network: choices that suit small boards, within ``budgets``.

    Parameters
    ----------
    network: a name of ``list_networks()`` with its variant, or the path of a TOML or model file.
    boards: each with its parts, by name or path; at least one.
    classes: outputs of the network, where these differ from the file's.
    budgets: limits under the names of a space file: ``ram_peak_kib``, ``nvm_kib``, ``event_s``, ``event_j``,
        ``lifetime_days``.
    duty: ``events_per_day``, ``inferences_per_day``.
    accept: operations that boards have no figure for; see ``context_of``.
    task: a TOML file with a table [task]: accuracy is then measured by training runs. Without it the front
        has no accuracy, and what accuracy depends on is fixed.

    Raises UserError with every problem.

    """
    problems = _option_problems(boards, budgets or {}, duty or {})
    workload = _tried(problems, lambda: load_network(network, classes=classes))
    for board in boards:
        _tried(problems, partial(load_board, board))
    asked = _tried(problems, lambda: read_accept(accept, file="option", key="--accept"))
    own = None if task is None else _tried(problems, lambda: _task(Path(task)))
    if problems or workload is None or asked is None:
        raise UserError(problems)
    folder = None if task is None else Path(task).parent
    path = network if folder is None else _from(folder, network)
    tables = space_tables(
        workload, path if classes is None else {"name": path, "classes": classes}, _name(network), boards,
        budgets=budgets or {}, duty=duty or {}, accept=accept_table(asked), task=own and dict(own[0]),
        delivered=own and own[1],
    )  # fmt: skip
    return replace(Space.from_dict(tables, file="option", folder=folder), made=True)


def _tried(problems: list[Problem], make: Callable[[], Made]) -> Made | None:
    try:
        return make()
    except UserError as error:
        problems.extend(error.problems)
        return None


def _option_problems(
    boards: Sequence[str], budgets: Mapping[str, float], duty: Mapping[str, float]
) -> list[Problem]:
    names = {budget: option for option, budget in BUDGETS.items()}
    problems = [
        Problem("option", names.get(name, name), f"{value}", "a finite number above 0")
        for name, value in budgets.items()
        if not isfinite(value) or value <= 0
    ]
    problems += [
        Problem("option", f"--{name.replace('_', '-')}", f"{value}", "a finite number of at least 0")
        for name, value in duty.items()
        if not isfinite(value) or value < 0
    ]
    if not boards:
        known = ", ".join(list_boards())
        problems.append(Problem("option", "--board", "missing", f"a board of `dse hw list`: {known}"))
    return problems


def _task(path: Path) -> tuple[Mapping[str, Any], tuple[int, int] | None]:
    """Return the table [task] of a file, after reading it as a task, and how many samples that delivers."""
    table = read_tables(path).get("task")
    if not isinstance(table, Mapping):
        raise UserError(Problem(str(path), "task", "no table [task]", "a TOML file with a table [task]"))
    return table, _delivered(Task.from_dict(table, file=str(path), folder=path.parent))


def _delivered(task: Task) -> tuple[int, int] | None:
    """Return the images of the smallest experience, and the samples of pretraining; None: not known here."""
    from dse.training.setting import dataset_of
    from dse.training.streams import make_stream

    try:
        stream = make_stream(dataset_of(task), task, 0)
    except UserError:  # the search says it, with what it was about to do
        return None
    return min((len(one.train) for one in stream.experiences), default=0), len(stream.pretrain)


def _from(folder: Path, network: str) -> str:
    """Return ``network`` as it is found from ``folder``, where another file of its name lies there."""
    own, changes = split_name(network)
    if own in list_networks() or not (folder / own).is_file() or (folder / own).samefile(own):
        return network
    return str(Path(own).absolute()) + (f"@{changes}" if changes else "")


def _name(network: str) -> str:
    """Return the name of the space: that of the network, without folder and ending."""
    own, changes = split_name(network)
    stem = own if own in list_networks() else PurePath(own).stem
    return slug(f"{stem}-{changes}" if changes else stem)
