"""A module of PyTorch in the user's own process: exported by ``torch.export``, then read as an archive is."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Final

from dse.errors import Problem, UserError
from dse.workload.model import limits
from dse.workload.model.graph import Model
from dse.workload.torch.reading import read_bytes

FORMAT: Final = "PyTorch (nn.Module)"


def read_module(
    module: Any,
    *,
    input_shape: Sequence[int] | None = None,
    example: Any = None,
    axes: Mapping[str, int] | None = None,
    name: str | None = None,
) -> Model:
    """Read a ``torch.nn.Module``; it is exported in evaluation mode and left as it was.

    Parameters
    ----------
    module: the module; its own code runs, once, to be traced.
    input_shape: shape of one sample, without the batch axis; the input is then one float32 tensor.
    example: instead of it, what the module is called with: a tensor, or a tuple of them, batch included.
    axes: sizes of dynamic axes, where ``example`` marks any.
    name: what the model is called; the name of its class unless given.

    Raises UserError where the module cannot be exported, with what torch says.

    """
    title = limits.clean_name(name or type(module).__name__)
    data = _exported(module, _arguments(title, input_shape, example), title)
    return read_bytes(data, title, title, axes or {}, FORMAT)


def _arguments(title: str, input_shape: Sequence[int] | None, example: Any) -> tuple[Any, ...]:
    import torch

    if (input_shape is None) == (example is None):
        raise UserError(Problem(title, "input_shape", "one of input_shape and example is needed", ""))
    if example is not None:
        return tuple(example) if isinstance(example, tuple | list) else (example,)
    sizes = tuple(input_shape or ())
    if not sizes or not all(1 <= size <= limits.MOST_VALUES for size in sizes):
        raise UserError(Problem(title, "input_shape", f"found {list(sizes)}", "whole numbers from 1"))
    return (torch.zeros((1, *sizes)),)


def _exported(module: Any, arguments: tuple[Any, ...], title: str) -> bytes:
    import torch

    if not isinstance(module, torch.nn.Module):
        found = f"found {type(module).__name__}"
        raise UserError(Problem(title, "module", found, "an instance of torch.nn.Module"))
    stream = BytesIO()
    try:
        with _evaluating(module), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(module, arguments), stream)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        found = f"cannot be exported: {limits.clean_name(reason)}"
        raise UserError(Problem(title, "torch.export", found, "see the limits of torch.export")) from None
    return stream.getvalue()


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Put a module and its parts into evaluation mode, and back into the mode that each was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
