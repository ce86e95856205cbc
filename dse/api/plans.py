"""One plan from words: the decisions of a space file with a single value each, on one network and board."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dse.errors import IllegalPlan, Problem, UserError
from dse.hardware import HardwareProfile
from dse.plan.decisions import CODES, INT8_NEUTRAL, PlanBatch, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.plan.structure import Checkpoints, patches_word
from dse.plan.techniques import plan_problems
from dse.plan.techniques.sparse_update import lowest_unit
from dse.search.choices import AUTO, DECISIONS, WHOLE_BATCH, codes_of, read_choices, require_units
from dse.search.reader import Reader, shown
from dse.workload import Workload

LARGEST_FILE: Final = 1 << 20  # bytes


@dataclass(frozen=True)
class Decided:
    """A plan with the two decisions that belong to the board: operating point and sleep state (-1: auto)."""

    plan: TrainingPlan
    operating_point: int
    sleep_state: int


def decisions_of(plan: TrainingPlan) -> dict[str, Any]:
    """Return the decisions of ``plan`` under the names that space and plan files use.

    Left out is what means nothing in the plan: the size of a buffer that there is none of, and decisions of
    int8 learning in another dtype, as long as nobody decided them.
    """
    values = {name: getattr(plan, name) for name in DECISIONS if hasattr(plan, name)}
    if plan.replay == "none" and plan.n_replays == 0:
        del values["n_replays"]
    if plan.learning_dtype != "int8":
        default = TrainingPlan(cut=-1)
        for name, neutral in INT8_NEUTRAL.items():
            if values[name] in (neutral, getattr(default, name)):
                del values[name]
    return values | {"batch": (plan.new_per_batch, plan.replays_per_batch)}


def plan_file(path: str | Path) -> dict[str, Any]:
    """Read the decisions of a plan file: TOML, one value per decision. Raises UserError."""
    try:
        data = Path(path).read_bytes()
        if len(data) > LARGEST_FILE:
            raise UserError(Problem(str(path), "", f"{len(data)} bytes", f"at most {LARGEST_FILE}"))
        return tomllib.loads(data.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(
            Problem(str(path), "", f"cannot be read: {reason}", "a TOML file with a plan")
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise UserError(Problem(str(path), "", f"not TOML: {error}", "see toml.io")) from None


def decide(
    workload: Workload, board: HardwareProfile, given: Mapping[str, Any], *, file: str = "plan"
) -> Decided:
    """Read one plan from ``given``: decision -> one value, in the words of a space file.

    What is left out takes the default of ``TrainingPlan``. Without a cut the last unit learns, or, where the
    policy lists units, the network is cut at the highest place below all of them. Without an operating point
    the first of the board is taken. Raises UserError with every problem, IllegalPlan where the decisions
    exclude each other.
    """
    reader = Reader(file)
    reader.known_keys(given, DECISIONS)
    split = _checkpoint_units(reader, given)
    single = {
        name: value for name, value in given.items() if name in DECISIONS and _single(reader, name, value)
    }
    if split is not None:
        del single["checkpoints"]
    defaults = {"cut": "last", "operating_point": board.operating_points[0].name}
    found = read_choices(reader, defaults | single)
    values = {name: options[0] for name, options in found.values.items() if options}
    require_units(reader, workload, found.policies)
    cut = _cut(reader, workload, values.get("cut"))
    codes = {
        name: (codes_of(reader, board, name, (values[name],)) or (AUTO,))[0]
        for name in ("operating_point", "sleep_state", "replay_level")
        if name in values
    }
    _raise_problems(reader)
    if "cut" not in given:
        cut = _below(workload, found.policies[0])
    batch = values["batch"]
    micro = values["micro_batch"]
    plan = TrainingPlan(
        **{name: CODES[name][values[name]] if name in CODES else values[name] for name in _PLAIN},
        patches=patches_word(values["patches"]),
        checkpoints=str(split or Checkpoints(values["checkpoints"])),
        cut=cut, policy=found.policies[0], new_per_batch=batch[0], replays_per_batch=batch[1],
        micro_batch=sum(batch) if micro == WHOLE_BATCH else micro,
        replay_level="auto" if codes["replay_level"] == AUTO else board.levels[codes["replay_level"]].name,
    )  # fmt: skip
    return Decided(_whole(workload, plan, micro, file), codes["operating_point"], codes["sleep_state"])


_PLAIN: Final = (
    "head", "replay", "n_replays", "replay_bits", "rounding", "frozen_bits", "learning_dtype", "bn_mode",
    "optimiser", "update", "epochs", "images_per_event", "new_samples", "first_input", "persist_every",
    *INT8_NEUTRAL, "in_place", "saved_bits", "im2col",
)  # fmt: skip


def _single(reader: Reader, name: str, value: Any) -> bool:
    """Refuse what would be several designs: one plan has one value per decision."""
    several = isinstance(value, list | tuple) and name != "batch"
    if several or (isinstance(value, Mapping) and name != "policy"):
        reader.wrong(name, shown(value), "one value; several make a space, see `dse explore`")
        return False
    return True


def _checkpoint_units(reader: Reader, given: Mapping[str, Any]) -> Checkpoints | None:
    """Return the list of units of a single plan's checkpoints, which a space cannot have."""
    try:
        found = Checkpoints.parse(given.get("checkpoints", "none"))
    except UserError:
        return None  # told with the other decisions
    return found if found.units else None


def _cut(reader: Reader, workload: Workload, value: Any) -> int:
    if value is None:
        return -1
    if value == "all":
        reader.wrong("cut", "'all'", "one cut; several make a space, see `dse explore`")
        return -1
    cut = {"last": len(workload.units) - 1, "input": -1}.get(value, value)
    try:
        workload.require_cut(cut)
    except IllegalPlan as error:
        reader.wrong("cut", error.problems[0].found, error.problems[0].allowed)
    return int(cut)


def _below(workload: Workload, policy: UpdatePolicy) -> int:
    """Return the cut for a policy that nobody gave one: as high as it can be."""
    last = len(workload.units) - 1
    if not policy.explicit:
        return last
    lowest = lowest_unit(PlanBatch.from_plans(workload, [TrainingPlan(cut=-1, policy=policy)]))
    below = [cut for cut in workload.cuts if cut < lowest]
    return last if lowest == last else max(below, default=workload.cuts[0])


def _raise_problems(reader: Reader) -> None:
    reader.problems = [
        replace(problem, key=problem.key.removeprefix("choices.")) for problem in reader.problems
    ]
    reader.raise_problems()


def _whole(workload: Workload, plan: TrainingPlan, micro: int, file: str) -> TrainingPlan:
    """Return the plan in its canonical form; raise IllegalPlan where its decisions exclude each other."""
    canonical = plan.canonical(workload)
    if micro == WHOLE_BATCH:  # the buffer may hold fewer replays than the mini-batch asked for
        canonical = replace(
            canonical, micro_batch=canonical.new_per_batch + canonical.replays_per_batch
        ).canonical(workload)
    problems = plan_problems(workload, canonical, file)
    if problems:
        raise IllegalPlan(problems)
    return canonical
