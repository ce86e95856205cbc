"""The graph of an archive as calls of operators: arguments by name, results by name, sizes as numbers.

Source: torch/_export/serde/schema.py, schema 8 (``Graph``, ``Node``, ``Argument``, ``GraphSignature``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dse.workload.model import limits
from dse.workload.torch.structure import Malformed, integer, mapping, real, sequence, tagged, text
from dse.workload.torch.symbols import size
from dse.workload.torch.tensors import Meta, meta

MAJOR: Final = 8
"""Version of the schema that is read; another major version may mean other things by the same words."""


MOST_OUTPUTS: Final = 4096
"""Of one call; and 256 of the whole graph."""


class Ref(str):
    """The name of a tensor of the graph, as an argument."""

    __slots__ = ()


@dataclass(frozen=True)
class Call:
    """One call of an operator: ``target`` as torch names it (``aten.conv2d.default``), results by name."""

    name: str
    target: str
    arguments: Mapping[str, Any]
    outputs: tuple[str, ...]
    module: str

    @property
    def operator(self) -> str:
        """The target without its overload: ``aten.conv2d``."""
        return self.target.rpartition(".")[0] or self.target

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument; the default where it is absent or None."""
        found = self.arguments.get(name)
        return default if found is None else found

    def integer(self, name: str, default: int | None = None) -> int:
        """Return an argument that is a whole number."""
        return integer(self.get(name, default), name)

    def real(self, name: str, default: float | None = None) -> float:
        """Return an argument that is a number."""
        return real(self.get(name, default), name)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return an argument that is true or false."""
        return self.get(name, default) is True

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Return an argument that is a list of whole numbers (a single one counts as a list)."""
        found = self.get(name, default)
        if isinstance(found, int):
            found = (found,)
        if not isinstance(found, tuple):
            raise Malformed(f"{name} has to be a list of whole numbers")
        return tuple(integer(entry, name) for entry in found)

    def refs(self) -> list[Ref]:
        """Tensors among the arguments, in order."""
        found: list[Ref] = []
        for value in self.arguments.values():
            entries = value if isinstance(value, tuple) else (value,)
            found += [entry for entry in entries if isinstance(entry, Ref)]
        return found


@dataclass(frozen=True)
class Program:
    """A parsed graph. ``tables`` describe its tensors; ``constants`` names entries of the weight tables."""

    inputs: tuple[str, ...]
    constants: Mapping[str, str]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]
    tables: Mapping[str, Meta]
    producer: str
    faults: tuple[str, ...] = field(default=())


def graph_parts(document: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return graph and signature of a parsed model.json; raises Malformed on another schema."""
    whole = mapping(document, "the model")
    version = mapping(whole.get("schema_version"), "schema_version")
    major = integer(version.get("major"), "schema_version: major")
    if major != MAJOR:
        raise Malformed(f"schema version {major} is not {MAJOR}, the one that is read")
    module = mapping(whole.get("graph_module"), "graph_module")
    return mapping(module.get("graph"), "graph"), mapping(module.get("signature"), "signature")


def producer(document: Mapping[str, Any]) -> str:
    """Return which torch wrote the file."""
    return limits.clean_name(f"torch {document.get('torch_version', 'unknown')}")


def tables(graph: Mapping[str, Any]) -> dict[str, Meta]:
    """Return what the graph says of each of its tensors."""
    values = mapping(graph.get("tensor_values"), "tensor_values")
    return {name: meta(entry, f"tensor_values: {name:.60}") for name, entry in values.items()}


def roles(signature: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Return the user's tensors, and the entry of the weight tables that each other input of the graph is."""
    inputs: list[str] = []
    constants: dict[str, str] = {}
    named = {
        "parameter": "parameter_name",
        "buffer": "buffer_name",
        "tensor_constant": "tensor_constant_name",
    }
    for entry in sequence(signature.get("input_specs"), "input_specs"):
        kind, spec = tagged(entry, "an entry of input_specs")
        argument = mapping(mapping(spec, kind).get("arg", {}), f"{kind}: arg")
        if kind in named:
            constants[text(argument.get("name"), kind)] = text(spec.get(named[kind]), kind)
        elif kind == "user_input" and "as_tensor" in argument:
            inputs.append(_name(argument["as_tensor"]))
    return inputs, constants


def results(signature: Mapping[str, Any]) -> list[str]:
    """Return the tensors that the model gives its user; updated statistics are none."""
    found: list[str] = []
    for entry in sequence(signature.get("output_specs"), "output_specs"):
        kind, spec = tagged(entry, "an entry of output_specs")
        if kind in ("user_output", "loss_output"):
            argument = mapping(mapping(spec, kind).get("arg"), f"{kind}: arg")
            if kind == "loss_output":
                found.append(_name(argument))
            elif "as_tensor" in argument:
                found.append(_name(argument["as_tensor"]))
    if len(found) > MOST_OUTPUTS // 16:
        raise Malformed(f"{len(found)} outputs")
    return found


def calls(graph: Mapping[str, Any], symbols: Mapping[str, int]) -> tuple[Call, ...]:
    """Return the calls of the graph in its order, with symbols in their arguments as numbers."""
    nodes = sequence(graph.get("nodes"), "nodes")
    if len(nodes) > limits.MOST_NODES:
        raise Malformed(f"{len(nodes)} operations are more than {limits.MOST_NODES}")
    sizes: dict[str, int] = {}
    for name, entry in mapping(graph.get("sym_int_values", {}), "sym_int_values").items():
        try:
            sizes[name] = size(entry, symbols, name[:60])
        except Malformed:
            continue  # whoever uses it finds none
    return tuple(_call(entry, f"node {place}", sizes) for place, entry in enumerate(nodes))


def _call(entry: Any, where: str, sizes: Mapping[str, int]) -> Call:
    node = mapping(entry, where)
    outputs: list[str] = []
    for output in sequence(node.get("outputs"), f"{where}: outputs"):
        outputs += _outputs(output, where)
    if len(outputs) > MOST_OUTPUTS:
        raise Malformed(f"{where}: {len(outputs)} outputs")
    arguments: dict[str, Any] = {}
    for found in sequence(node.get("inputs"), f"{where}: inputs"):
        argument = mapping(found, where)
        arguments[text(argument.get("name"), where)] = _argument(argument.get("arg"), where, sizes)
    target = text(node.get("target"), f"{where}: target").removeprefix("torch.ops.")
    name = node.get("name") or (outputs[0] if outputs else where)
    return Call(text(name, where), target, arguments, tuple(outputs), _module(node.get("metadata")))


def _outputs(output: Any, where: str) -> list[str]:
    tag, content = tagged(output, where)
    if tag == "as_tensor":
        return [_name(content)]
    if tag == "as_tensors":
        return [_name(entry) for entry in sequence(content, where)]
    return []  # sizes are known from the symbols


def _name(content: Any) -> str:
    return text(mapping(content, "a tensor").get("name"), "the name of a tensor")


def _module(metadata: Any) -> str:
    """Path of the innermost module, ``features.0.0``, out of ``key,path,type;key,path,type``."""
    stack = metadata.get("nn_module_stack") if isinstance(metadata, dict) else None
    parts = stack.rpartition(";")[2].split(",") if isinstance(stack, str) else []
    return parts[1] if len(parts) >= 3 and not parts[1].startswith("_empty_nn_module") else ""


def _argument(value: Any, where: str, sizes: Mapping[str, int]) -> Any:
    """Return an argument as a plain value; None for what no operation here reads."""
    tag, content = tagged(value, where)
    if tag in _SINGLE:
        return _SINGLE[tag](content, sizes)
    if tag in _LISTS:
        read = _SINGLE[_LISTS[tag]]
        return tuple(read(entry, sizes) for entry in sequence(content, where))
    return None


def _optional(content: Any, sizes: Mapping[str, int]) -> Any:
    tag, inner = tagged(content, "an optional tensor")
    return Ref(_name(inner)) if tag == "as_tensor" else None


def _symbolic(content: Any, sizes: Mapping[str, int]) -> Any:
    tag, inner = tagged(content, "a size")
    return integer(inner, "a size") if tag == "as_int" else sizes.get(text(inner, "a size"))


_SINGLE: Final[Mapping[str, Callable[[Any, Mapping[str, int]], Any]]] = {
    "as_tensor": lambda content, sizes: Ref(_name(content)),
    "as_optional_tensor": _optional,
    "as_int": lambda content, sizes: integer(content, "an argument"),
    "as_scalar_type": lambda content, sizes: integer(content, "a type"),
    "as_float": lambda content, sizes: real(content, "an argument"),
    "as_bool": lambda content, sizes: content is True,
    "as_string": lambda content, sizes: text(content, "an argument"),
    "as_sym_int": _symbolic,
}
_LISTS: Final[Mapping[str, str]] = {
    "as_tensors": "as_tensor",
    "as_optional_tensors": "as_optional_tensor",
    "as_ints": "as_int",
    "as_floats": "as_float",
    "as_bools": "as_bool",
    "as_sym_ints": "as_sym_int",
}
