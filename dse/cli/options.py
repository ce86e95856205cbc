"""Options that commands share: one per decision of a plan, and what is priced against."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from operator import getitem
from typing import Annotated, Any, Final, NamedTuple

import typer


class Decision(NamedTuple):
    """How one decision of a plan is given on the command line."""

    kind: type
    metavar: str
    help: str


DECISIONS: Final[dict[str, Decision]] = {
    "head": Decision(str, "WORD", "sgd, ncm, slda, cwr or tinyol"),
    "replay": Decision(str, "WORD", "none, raw or latent"),
    "batch": Decision(str, "NEW+REPLAYS", "samples of a mini-batch, such as 21+107"),
    "cut": Decision(str, "UNIT", "learning starts above this unit: an index, 'last' or 'input'"),
    "policy": Decision(
        str,
        "POLICY",
        "what learns above the cut: all, bias, last-K, or 'sparse K UNIT:RATIO ...': biases of "
        "the last K layers, weights of some units for a ratio of input channels, and the classifier",
    ),
    "frozen_bits": Decision(int, "BITS", "width of the frozen stage: 8 or 32"),
    "replay_bits": Decision(int, "BITS", "width of a stored replay element: 1 to 8, 16 or 32"),
    "learning_dtype": Decision(str, "WORD", "fp32, fp16 or int8"),
    "bn_mode": Decision(str, "WORD", "folded, frozen_stats, batch_stats or group"),
    "optimiser": Decision(str, "WORD", "sgd, momentum, adam or lars"),
    "micro_batch": Decision(str, "SAMPLES", "samples computed at once: a number, or 'batch' for all"),
    "update": Decision(str, "WORD", "accumulate, immediate or in_place"),
    "new_samples": Decision(str, "WORD", "cache_latent, cache_raw or recompute"),
    "first_input": Decision(str, "WORD", "stored or dequantised"),
    "persist_every": Decision(int, "EVENTS", "events between saving what was learned; 0: never"),
    "backward_dtype": Decision(str, "WORD", "of errors where learning is int8: fp32 or int8"),
    "accumulator_dtype": Decision(str, "WORD", "of gradients where learning is int8: fp32 or int8"),
    "classifier_dtype": Decision(str, "WORD", "of the last unit where learning is int8: learning or fp32"),
    "gradient_scaling": Decision(str, "WORD", "of int8 weights and int32 biases: none or qas"),
    "weight_rounding": Decision(str, "WORD", "of updated int8 weights: nearest or stochastic"),
    "in_place": Decision(str, "WORD", "what may overwrite its input: elementwise, none or depthwise"),
    "checkpoints": Decision(
        str, "SEGMENTS", "run parts of the learning stage forward again: none, 'every K' or 'units A B ...'"
    ),
    "saved_bits": Decision(int, "BITS", "width of saved activations: 8, 4 or 2; 32: as computed"),
    "im2col": Decision(str, "WORD", "unfold inputs as the kernel library does: library, none or full"),
    "patches": Decision(str, "PATCHES", "run the first layers patch by patch: none or 'TxT to U'"),
    "n_replays": Decision(int, "SAMPLES", "capacity of the replay buffer"),
    "rounding": Decision(str, "WORD", "nearest or floor"),
    "replay_level": Decision(str, "LEVEL", "memory that keeps the replays, or 'auto'"),
    "images_per_event": Decision(int, "IMAGES", "new samples of one learning event"),
    "epochs": Decision(int, "EPOCHS", "passes over the samples of an event"),
    "operating_point": Decision(str, "NAME", "of the board; its first without this option"),
    "sleep_state": Decision(str, "NAME", "of the board, or 'auto'"),
}
"""In the order and under the names of a space file; read there, so that they cannot drift apart."""

Network = Annotated[str, typer.Argument(help="A network: a name of `dse networks`, a variant such as "
    "mobilenet-v1@width=0.25, or the path of a TOML or model file.", show_default=False)]  # fmt: skip
Board = Annotated[str, typer.Argument(help="A board with its parts: a name of `dse hw list`, such as "
    "'vega + hyperram-64', or the path of a TOML file.", show_default=False)]  # fmt: skip
Plan = Annotated[str | None, typer.Option(help="A plan file: TOML, a value per decision; options override.",
    metavar="FILE", show_default=False)]  # fmt: skip
Preset = Annotated[
    str, typer.Option(help="Rules of counting: default, qlr-cl or mcunetv3-extra.", metavar="NAME")
]
Accept = Annotated[list[str] | None, typer.Option(help="Price an operation that the board has no figure for "
    "within a bound: MAC/cycle of an operator, cycles per element of another operation; without numbers the "
    "bound is derived from the board. Once per operation.", metavar="OPERATION[=LOW..HIGH]",
    show_default=False)]  # fmt: skip
EventsPerDay = Annotated[float, typer.Option(help="Learning events per day.", metavar="NUMBER")]
InferencesPerDay = Annotated[float, typer.Option(help="Inferences per day.", metavar="NUMBER")]
CaptureMs = Annotated[float, typer.Option(help="Time to capture one sample.", metavar="MS")]
CaptureMj = Annotated[float, typer.Option(help="Energy to capture one sample.", metavar="MJ")]


def with_decisions(command: Callable[..., int]) -> Callable[..., int]:
    """Give ``command`` one option per decision; it receives those that were given, as ``decisions``."""
    own = inspect.signature(command, eval_str=True).parameters
    parameters = [parameter for name, parameter in own.items() if name != "decisions"]
    parameters += [_parameter(name, decision) for name, decision in DECISIONS.items()]

    @wraps(command)
    def wrapper(**values: Any) -> int:
        decisions = {name: values.pop(name) for name in DECISIONS}
        return command(**values, decisions=read_decisions(decisions))

    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _parameter(name: str, decision: Decision) -> inspect.Parameter:
    option = typer.Option(
        f"--{name.replace('_', '-')}", help=decision.help, metavar=decision.metavar, show_default=False,
        rich_help_panel="Decisions of the plan",
    )  # fmt: skip
    annotation = getitem(Annotated, (decision.kind | None, option))  # a type that is only known now
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def read_decisions(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decisions that were given, numbers read where a word may stand in their place.

    >>> read_decisions({"cut": "19", "batch": "21+107", "micro_batch": "batch", "head": None})
    {'cut': 19, 'batch': [21, 107], 'micro_batch': 'batch'}
    """
    found = {name: value for name, value in given.items() if value is not None}
    for name in ("cut", "micro_batch"):
        if name in found:
            found[name] = _number(found[name])
    if "batch" in found:
        pieces = [_number(piece.strip()) for piece in str(found["batch"]).split("+")]
        found["batch"] = pieces if len(pieces) == 2 else found["batch"]
    return found


def _number(word: str) -> int | str:
    return int(word) if re.fullmatch(r"-?[0-9]{1,30}", word) else word  # longer ones are refused as words
