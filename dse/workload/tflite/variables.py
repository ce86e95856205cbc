"""Variables, which keep numbers from one call of a network to the next.

A streaming network holds in them what its windows have seen: it reads them at the start of a call, and
assigns them before its end. Of one call, what is read is an input.
"""

from __future__ import annotations

from dse.workload.base import Shape
from dse.workload.model.graph import INPUT_PREFIX, STATE_PREFIX
from dse.workload.tflite.flat import Operator
from dse.workload.tflite.nodes import Nodes
from dse.workload.tflite.stored import Unreadable
from dse.workload.tflite.tensors import Value


def handle(nodes: Nodes, operator: Operator) -> None:
    """VAR_HANDLE: the name of a variable; two of one name are the same."""
    index = nodes.output(operator)
    shared = (operator.options or {}).get("SharedName") or b""
    name = shared.decode("utf-8", "replace") or nodes.graph.tensors[index].name
    nodes.handles[index] = name or f"variable {index}"


def assign(nodes: Nodes, operator: Operator) -> None:
    """ASSIGN_VARIABLE: what is read afterwards in the same call is what was assigned."""
    name = _variable(nodes, operator)
    if nodes.is_computed(operator, 1):
        nodes.held[name] = nodes.value(operator, 1)


def read(nodes: Nodes, operator: Operator) -> None:
    """READ_VARIABLE: an input of the network, unless this call has assigned it."""
    name, index = _variable(nodes, operator), nodes.output(operator)
    if name not in nodes.held:
        nodes.held[name] = _as_input(nodes, name, index)
    nodes.values[index] = nodes.held[name]


def initialise(nodes: Nodes, operator: Operator) -> None:
    """CALL_ONCE: sets variables before the first call, which is no part of any later one."""


def _variable(nodes: Nodes, operator: Operator) -> str:
    index = nodes.index(operator, 0)
    if index not in nodes.handles:
        raise Unreadable("its first input is no variable")
    return nodes.handles[index]


def _as_input(nodes: Nodes, variable: str, index: int) -> Value:
    full = nodes.stored_full(index)
    if full is None:
        raise Unreadable(f"variable {variable} has no known shape")
    batched = len(full) > 1 and full[0] == 1
    name = nodes.names.new(f"{STATE_PREFIX}{variable}")
    nodes.report.count("variables that keep state from call to call, read as inputs")
    shape: Shape = full[1:] if batched else full
    nodes.states.append((name, shape, index))
    return Value(f"{INPUT_PREFIX}{name}", full, batched)
