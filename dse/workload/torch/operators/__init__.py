"""What every operator of torch becomes: one function per group, found by the operator's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dse.workload.torch.operators.attention import ATTENTION
from dse.workload.torch.operators.base import Converter
from dse.workload.torch.operators.convolutions import CONVOLUTIONS
from dse.workload.torch.operators.elementwise import ELEMENTWISE
from dse.workload.torch.operators.matrices import MATRICES
from dse.workload.torch.operators.moving import MOVING
from dse.workload.torch.operators.normalisation import NORMALISATION
from dse.workload.torch.operators.pooling import POOLING
from dse.workload.torch.operators.quantisation import QUANTISATION
from dse.workload.torch.operators.recurrent import RECURRENT
from dse.workload.torch.operators.reshaping import RESHAPING

CONVERTERS: Final[Mapping[str, Converter]] = {
    **CONVOLUTIONS, **MATRICES, **NORMALISATION, **ELEMENTWISE, **POOLING, **RESHAPING, **MOVING, **RECURRENT,
    **ATTENTION, **QUANTISATION,
}  # fmt: skip
"""Operator as torch names it, without overload and without the underscore of what works in place."""
