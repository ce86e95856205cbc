"""Whether networks take the data of a task, and what is trained in place of one that does not."""

from __future__ import annotations

from collections.abc import Iterable

from dse.errors import Problem, UserError
from dse.search.space import Space
from dse.training.data import Dataset
from dse.validation.select import Trained, stand_in
from dse.workload import Workload, load_network
from dse.workload.base import shape_text


def misfit(workload: Workload, dataset: Dataset) -> str:
    """Say why ``workload`` cannot learn from ``dataset``; empty where it can."""
    if workload.forward_only:
        last = workload.last_forward_only
        return f"it has layers that run forward only, which no training executes ({last})"
    same = workload.input_shape == dataset.input_shape and workload.classes == dataset.classes
    if same:
        return ""
    return (
        f"it takes {shape_text(workload.input_shape)} and tells {workload.classes} classes apart; the "
        f"samples of {dataset.name} are {shape_text(dataset.input_shape)} in {dataset.classes} classes"
    )


def trained_networks(
    space: Space, needed: Iterable[str], dataset: Dataset, wanted: str | None, *, file: str
) -> Trained:
    """Return what is trained for each network of ``space``.

    Parameters
    ----------
    space: with the networks ``needed`` by name.
    dataset: what they are to learn from.
    wanted: a stand-in, as ``load_network`` takes it, for the one network that does not fit (or, where all
        fit, for the only one that is needed); None: all must fit.
    file: the run, for messages.

    Raises UserError where a network does not fit the data, or the stand-in neither.

    """
    own = Trained.own(space)
    names = list(dict.fromkeys(needed))
    reasons = {name: misfit(own.of(name), dataset) for name in names}
    strange = [name for name in names if reasons[name]]
    if wanted is None:
        if strange:
            raise UserError(
                Problem(file, f"network {name}", reasons[name], _hint(dataset)) for name in strange
            )
        return own
    replaced = strange or names
    if len(replaced) != 1:
        found = f"stands in for one network, but {len(replaced)} are to be trained: {', '.join(replaced)}"
        raise UserError(Problem("option", "network", found, "a run of one network, or data that fit"))
    other = load_network(wanted)
    reason = misfit(other, dataset)
    if reason:
        raise UserError(Problem("option", "network", f"{wanted}: {reason}", _hint(dataset)))
    if other.training_hash == own.of(replaced[0]).training_hash:
        return own
    return stand_in(space, {replaced[0]: other}, other.name)


def _hint(dataset: Dataset) -> str:
    """Say what would fit."""
    shape, classes = dataset.input_shape, dataset.classes
    if len(shape) == 3 and shape[1] == shape[2]:
        variant = f"resolution={shape[1]},channels={shape[0]},classes={classes}"
    elif len(shape) == 2:
        variant = f"length={shape[1]},channels={shape[0]},classes={classes}"
    else:
        return "data of that form, or a stand-in network that takes these"
    return f"data of that form, or a stand-in such as --network NAME@{variant}"
