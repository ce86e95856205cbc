"""What a space lets vary: values per decision, as the file says them and as network and board mean them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dse.errors import UserError
from dse.hardware import HardwareProfile
from dse.plan.decisions import (
    CODES,
    FROZEN_BITS,
    INT8_NEUTRAL,
    LIFESPAN_CHOICES,
    SAVED_BITS,
    TrainingPlan,
    code_of,
)
from dse.plan.policy import UpdatePolicy, misfits
from dse.plan.structure import Checkpoints, Patches, patches_word
from dse.search.reader import Reader, is_integer, shown
from dse.vocabulary import REPLAY_BITS
from dse.workload import Workload

AUTO: Final = -1  # code of the automatic replay level and sleep state
WHOLE_BATCH: Final = 0  # stands for a micro-batch of the whole mini-batch

STEP_AXES: Final = (
    "cut", "policy", "frozen_bits", "replay_bits", "learning_dtype", "bn_mode", "optimiser", "micro_batch",
    "update", "new_samples", "first_input", "persist_every", "backward_dtype", "accumulator_dtype",
    "classifier_dtype", *LIFESPAN_CHOICES,
)  # fmt: skip
"""Decisions that make the rows of a block, slowest first; the training step is priced once per row."""

EVENT_AXES: Final = (
    "rounding", "gradient_scaling", "weight_rounding", "images_per_event", "epochs", "sleep_state",
    "operating_point", "replay_level", "n_replays",
)  # fmt: skip
"""Decisions that make the columns of a block, slowest first; the fastest fill the arrays that are priced."""

BLOCK_AXES: Final = ("head", "replay", "batch")
"""Decisions that tell blocks apart, besides board and network."""

LARGEST_BATCH: Final = 65_536
_INTEGERS: Final = {
    "n_replays": (1, 1_000_000_000),
    "images_per_event": (1, 1_000_000),
    "epochs": (1, 1_000_000),
    "persist_every": (0, 1_000_000),
}
"""Smallest and largest value; within them every count is exact in 64 bits."""

_LISTED: Final = {"replay_bits": REPLAY_BITS, "frozen_bits": FROZEN_BITS, "saved_bits": SAVED_BITS}
_DEFAULT: Final = TrainingPlan(cut=-1)
_OTHER_DEFAULTS: Final[dict[str, Any]] = {
    "cut": "all",
    "operating_point": "all",
    "sleep_state": "auto",
    "batch": [[_DEFAULT.new_per_batch, _DEFAULT.replays_per_batch]],
}

DECISIONS: Final = (*BLOCK_AXES, *STEP_AXES, *EVENT_AXES)


@dataclass(frozen=True)
class Choices:
    """Values per decision as the file says them: codes for words, except where a board or network decides.

    ``cut`` holds indices, "last" and "input", or is ("all",); ``operating_point``, ``sleep_state`` and
    ``replay_level`` hold names; ``policy`` holds positions in ``policies``; ``batch`` holds pairs.
    """

    values: Mapping[str, tuple[Any, ...]]
    policies: tuple[UpdatePolicy, ...]


def read_choices(reader: Reader, table: Mapping[str, Any]) -> Choices:
    """Read the table ``choices``; decisions that are left out take the default of ``TrainingPlan``.

    Without them, every legal cut and every operating point is taken.
    """
    reader.known_keys(table, DECISIONS, "choices")
    values = {}
    for name in DECISIONS:
        found = table.get(name, _OTHER_DEFAULTS.get(name, getattr(_DEFAULT, name, None)))
        values[name] = _read(reader, f"choices.{name}", name, found)
    _require_int8(reader, table, values)
    policies = _unlisted(values["policy"])
    names = [policy.name for policy in policies]
    for name in sorted({name for name in names if names.count(name) > 1}):
        reader.wrong("choices.policy", f"two policies named {name!r}", "a name for each")
    values["policy"] = tuple(range(len(policies)))
    return Choices(values, policies)


def _require_int8(reader: Reader, table: Mapping[str, Any], values: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse decisions of int8 learning where no plan learns in int8: they would be dropped."""
    if code_of("learning_dtype", "int8") in values["learning_dtype"]:
        return
    for name, neutral in INT8_NEUTRAL.items():
        if name in table and set(values[name]) - {code_of(name, neutral)}:
            reader.wrong(f"choices.{name}", shown(table[name]), "learning_dtype = 'int8', or leave it out")


def _unlisted(policies: Sequence[UpdatePolicy]) -> tuple[UpdatePolicy, ...]:
    """Drop repeated policies (they hold dicts, so equality decides)."""
    kept: list[UpdatePolicy] = []
    for policy in policies:
        if policy not in kept:
            kept.append(policy)
    return tuple(kept)


def _read(reader: Reader, key: str, name: str, found: Any) -> tuple[Any, ...]:
    if name in _INTEGERS:
        low, high = _INTEGERS[name]
        return reader.integers(key, found, low, high=high)
    if name in _LISTED:
        return reader.integers(key, found, 0, _LISTED[name])
    if name == "policy":
        return _policies(reader, key, found)
    accept = {
        "cut": _cut, "micro_batch": _micro_batch, "batch": _batch, "checkpoints": _checkpoints,
        "patches": _patches,
    }.get(name, _name)  # fmt: skip
    if (
        name == "batch"
        and isinstance(found, list | tuple)
        and found
        and all(is_integer(one) for one in found)
    ):
        found = [found]  # one pair
    if name in CODES:
        return reader.values(key, found, lambda where, value: _word(reader, where, name, value))
    return reader.values(key, found, lambda where, value: accept(reader, where, value))


def _word(reader: Reader, key: str, name: str, value: Any) -> int | None:
    if isinstance(value, str) and value in CODES[name]:
        return CODES[name].index(value)
    reader.unknown(key, name.replace("_", " "), value, CODES[name])
    return None


def _name(reader: Reader, key: str, value: Any) -> str | None:
    if isinstance(value, str) and value:
        return value
    reader.wrong(key, shown(value), "a name")
    return None


def _cut(reader: Reader, key: str, value: Any) -> int | str | None:
    if value in ("all", "last", "input"):
        return str(value)
    if is_integer(value) and -1 <= value <= LARGEST_BATCH:
        return int(value)
    reader.wrong(key, shown(value), "the index of an LR layer, 'all', 'last' or 'input'")
    return None


def _micro_batch(reader: Reader, key: str, value: Any) -> int | None:
    if value == "batch":
        return WHOLE_BATCH
    if is_integer(value) and 1 <= value <= 2 * LARGEST_BATCH:
        return int(value)
    reader.wrong(key, shown(value), f"an integer from 1 to {2 * LARGEST_BATCH}, or 'batch'")
    return None


def _checkpoints(reader: Reader, key: str, value: Any) -> int | None:
    """Return K of "every K", 0 for none; lists of units belong to one plan on one network."""
    found = _parsed(reader, lambda: Checkpoints.parse(value, file=reader.file, key=key))
    if isinstance(found, Checkpoints) and found.units:
        reader.wrong(key, shown(value), "'none' or 'every K' in a space; a list of units in a single plan")
        return None
    return found.every if isinstance(found, Checkpoints) else None


def _patches(reader: Reader, key: str, value: Any) -> int | None:
    found = _parsed(reader, lambda: Patches.parse(value, file=reader.file, key=key) or 0)
    return found.code if isinstance(found, Patches) else found


SPELLINGS: Final[Mapping[str, Callable[[int], str]]] = {
    "checkpoints": lambda every: str(Checkpoints(every)),
    "patches": patches_word,
}
"""Decisions that travel as codes which no tuple of words spells, and the word of a code."""


def _parsed(reader: Reader, parse: Callable[[], Any]) -> Any:
    """Return what ``parse`` finds; None, with its problem noted, where it refuses."""
    try:
        return parse()
    except UserError as error:
        reader.problems += error.problems
        return None


def _batch(reader: Reader, key: str, value: Any) -> tuple[int, int] | None:
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(is_integer(one) for one in value)
    if pair and 1 <= value[0] <= LARGEST_BATCH and 0 <= value[1] <= LARGEST_BATCH:
        return int(value[0]), int(value[1])
    allowed = f"a pair [new samples from 1 to {LARGEST_BATCH}, replays from 0 to {LARGEST_BATCH}]"
    reader.wrong(key, shown(value), allowed)
    return None


def _policies(reader: Reader, key: str, found: Any) -> tuple[UpdatePolicy, ...]:
    listed = found if isinstance(found, list | tuple) else [found]
    if not listed:
        reader.wrong(key, "an empty list", "at least one value, or leave the decision out")
    policies = []
    for number, value in enumerate(listed):
        where = f"{key}[{number}]" if isinstance(found, list | tuple) else key
        try:
            policies.append(UpdatePolicy.parse(value, file=reader.file, key=where))
        except UserError as error:
            reader.adopt(error, where)
        except (ValueError, OverflowError):  # a number of thousands of digits
            reader.wrong(
                where, shown(value), "all, bias, last-K, sparse K UNIT:RATIO ... or a table of units"
            )
    return tuple(policies)


# --- what the choices mean on one network and one board ---


def cuts_of(reader: Reader, workload: Workload, named: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the cuts of ``workload`` among the choices; a cut that is legal nowhere here is left out.

    "all" stands for the legal cuts of the network, "last" for its last unit, "input" for the network's input.
    """
    last = len(workload.units) - 1
    meant: list[int] = []
    for value in named:
        found: dict[str, list[int]] = {
            "all": [cut for cut in workload.legal_cuts if cut >= 0],
            "last": [last],
            "input": [-1],
        }
        meant += found[value] if isinstance(value, str) else [value]
    cuts = tuple(cut for cut in dict.fromkeys(meant) if cut in workload.cuts)
    if named and not cuts:
        listed = ", ".join(map(str, workload.legal_cuts))
        words = "'last'" if workload.forward_only else "'last', 'input'"
        reader.wrong("choices.cut", f"no legal cut of {workload.name}", f"legal: {listed}, {words}")
    return cuts


def require_units(reader: Reader, workload: Workload, policies: Sequence[UpdatePolicy]) -> None:
    """Refuse policies that name what ``workload`` does not have."""
    for policy in policies:
        for problem in misfits(policy, workload):
            reader.wrong("choices.policy", problem.found, problem.allowed)


def codes_of(
    reader: Reader, board: HardwareProfile, decision: str, named: tuple[str, ...]
) -> tuple[int, ...]:
    """Return positions in the board's own list for ``operating_point``, ``sleep_state`` or ``replay_level``.

    Names that this board does not have are left out, as long as one is left; "auto" is -1.
    """
    names = {
        "operating_point": [point.name for point in board.operating_points],
        "sleep_state": [state.name for state in board.sleep_states],
        "replay_level": [level.name for level in board.levels],
    }[decision]
    codes: list[int] = []
    for name in named:
        if name == "all" and decision == "operating_point":
            codes += range(len(names))
        elif name == "auto" and decision != "operating_point":
            codes.append(AUTO)
        elif name in names:
            codes.append(names.index(name))
    if named and not codes:
        word = "'all'" if decision == "operating_point" else "'auto'"
        reader.wrong(
            f"choices.{decision}",
            f"{board.label} has none of {', '.join(map(repr, named))}",
            f"it has: {', '.join(names)}, or {word}",
        )
    return tuple(dict.fromkeys(codes))


def require_somewhere(reader: Reader, decision: str, named: tuple[Any, ...], known: Sequence[object]) -> bool:
    """Refuse names that no board has and cuts that no network has; return whether all are known."""
    words = {"all", "auto", "last", "input", -1}
    strange = [value for value in named if value not in words and value not in known]
    for value in strange:
        if decision == "cut":
            listed = ", ".join(str(cut) for cut in sorted({int(str(cut)) for cut in known}))
            reader.wrong("choices.cut", f"{value} is no legal cut of any network here", f"legal: {listed}")
        else:
            reader.unknown(f"choices.{decision}", decision.replace("_", " "), value, dict.fromkeys(known))
    return not strange
