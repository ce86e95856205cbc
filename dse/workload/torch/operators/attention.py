"""Scaled dot-product attention as what it computes: a product, a softmax and another product."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Final

from dse.workload.torch.conversion import Conversion
from dse.workload.torch.operators.base import Converter
from dse.workload.torch.operators.elementwise import combined
from dse.workload.torch.operators.matrices import matmul
from dse.workload.torch.program import Call
from dse.workload.torch.structure import Unsupported
from dse.workload.torch.values import Value


def attention(c: Conversion, call: Call) -> Value:
    """Return softmax(q k^T s + mask) v (Vaswani et al., arXiv 1706.03762, Eq. 1).

    ``scale`` and ``causal`` are attributes of the first product, which they add no MACs to.
    """
    query, key, value = (c.value(call, name) for name in ("query", "key", "value"))
    if call.flag("enable_gqa"):
        raise Unsupported("attention with fewer keys than heads")
    width = query.shape[-1] if query.shape else 1
    more = {"scale": call.real("scale", 1 / sqrt(max(width, 1))), "causal": call.flag("is_causal")}
    scores = matmul(c, call, query, key, suffix=".scores", transpose_b=True, more=more)
    mask = call.get("attn_mask", call.get("attn_bias"))
    if mask is not None:
        scores = combined(c, call, "add", scores, c.of(mask), suffix=".mask")
    along = {"axis": scores.axis(-1)}
    weights = c.add(
        call, "softmax", [scores], scores.shape, scores.batch, suffix=".softmax", attributes=along
    )
    return matmul(c, call, weights, value, suffix=".mix")


ATTENTION: Final[Mapping[str, Converter]] = dict.fromkeys(
    (
        "aten.scaled_dot_product_attention", "aten._scaled_dot_product_flash_attention_for_cpu",
        "aten._scaled_dot_product_flash_attention", "aten._scaled_dot_product_efficient_attention",
        "aten._scaled_dot_product_attention_math",
    ),
    attention,
)  # fmt: skip
