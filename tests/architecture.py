"""Reads source with ``ast`` and lists what breaks the rules of the architecture. Checks nothing by itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

BASE: Final = frozenset({"errors", "files", "units", "vocabulary", "reference"})
_MODEL: Final = BASE | {"workload", "hardware", "plan", "cost", "accuracy", "search"}
_WORK: Final = _MODEL | {"training", "execution", "calibrate"}
_RESULTS: Final = _WORK | {"validation", "reproduce"}

ALLOWED: Final[Mapping[str, Collection[str]]] = {
    **dict.fromkeys(BASE, BASE),
    "explorations": (),  # data
    "studies": (),  # data
    "workload": BASE,
    "hardware": BASE,
    "plan": BASE | {"workload"},
    "cost": BASE | {"plan", "workload", "hardware"},
    "accuracy": BASE | {"plan", "workload"},
    "search": BASE | {"cost", "accuracy", "plan", "workload", "hardware"},
    "training": BASE | {"plan", "workload"},
    "execution": BASE | {"plan", "workload"},
    "calibrate": BASE | {"hardware", "workload", "cost"},
    "validation": _WORK,
    "reproduce": _WORK,
    "report": _RESULTS,
    "api": _RESULTS | {"report"},
    "cli": _RESULTS | {"report", "api", ""},
    "": BASE | {"api"},
}
"""Component of ``dse`` -> the components that it may import; ``""`` is ``dse/__init__.py`` itself."""

HOMES: Final[Mapping[str, tuple[str, ...]]] = {
    "typer": ("dse.cli",),
    "click": ("dse.cli",),
    "rich": ("dse.cli",),
    "optuna": ("dse.search.study", "dse.search.trials"),
    "moocore": ("dse.search.pareto",),
    "ortools": ("dse.cost.arena.exact",),
    "matplotlib": ("dse.report.figures",),
    "torch": ("dse.training", "dse.workload.torch"),
    "sklearn": ("dse.accuracy.fitted", "dse.training.data"),
    "pooch": ("dse.training.data",),
    "PIL": ("dse.training.data",),
    "onnx": ("dse.workload.onnx",),
    "tflite": ("dse.workload.tflite",),
    "flatbuffers": ("dse.workload.tflite",),
}
"""Third-party package -> the only modules (with what lies below them) that import it."""

LAZY: Final = frozenset({"pandas", "pyarrow"})
"""Third-party packages that are imported inside functions only."""

UNSAFE_IMPORTS: Final = frozenset({"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"})
UNSAFE_CALLS: Final = frozenset({"eval", "exec", "compile", "__import__"})
VAGUE_NAMES: Final = frozenset({"util", "utils", "helper", "helpers", "misc", "common"})


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, by its absolute name."""

    name: str
    line: int
    in_function: bool


def component(module: str) -> str:
    """Component of a module of ``dse``: ``dse.cost.model`` -> ``cost``, ``dse`` -> ``""``."""
    return module.split(".")[1] if "." in module else ""


def under(module: str, homes: Collection[str]) -> bool:
    """Whether ``module`` is one of ``homes`` or lies below one."""
    return any(module == home or module.startswith(home + ".") for home in homes)


def imports(source: str, module: str, *, is_package: bool = False) -> list[Import]:
    """Every import of ``source``, wherever it stands; relative ones are resolved against ``module``."""
    package = module if is_package else module.rpartition(".")[0]
    found: list[Import] = []
    for node, in_function in _nodes(ast.parse(source), in_function=False):
        found += [Import(name, node.lineno, in_function) for name in _imported_names(node, package)]
    return found


def _nodes(node: ast.AST, *, in_function: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, in_function
        inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _nodes(child, in_function=inside)


def _imported_names(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return _from_names(node, package)
    if isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"} and node.args:
        target = node.args[0]
        return [target.value if isinstance(target, ast.Constant) else "?"]
    return []


def _from_names(node: ast.ImportFrom, package: str) -> list[str]:
    parts = package.split(".")
    stem = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
    target = ".".join(part for part in (stem, node.module) if part)
    if target != "dse":
        return [target]
    # `from dse import cost` names a component; `from dse import __version__` names the package itself.
    return ["dse" if alias.name.startswith("__") else f"dse.{alias.name}" for alias in node.names]


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def import_violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What ``module`` imports although the table or the home of a package forbids it."""
    here = component(module)
    if here not in ALLOWED:
        return [f"{module}: component {here!r} has no row in the import table"]
    wrong: list[str] = []
    for found in imports(source, module, is_package=is_package):
        reason = _import_reason(found, module, here)
        if reason:
            wrong.append(f"{module}:{found.line}: imports {found.name}: {reason}")
    return wrong


def _import_reason(found: Import, module: str, here: str) -> str:
    top = found.name.split(".")[0]
    if top == "?":
        return "" if here in {"", "api"} else "computed module names hide what is imported"
    if top == "dse":
        there = component(found.name)
        own = there == here or (found.name == "dse" and "." in module)
        return "" if own or there in ALLOWED[here] else f"{here or 'dse'} may not import {there or 'dse'}"
    if top in UNSAFE_IMPORTS:
        return "runs code that it reads"
    if top in HOMES and not under(module, HOMES[top]):
        return f"its home is {' or '.join(HOMES[top])}"
    if top in LAZY and not found.in_function:
        return "only inside functions"
    return ""


def call_violations(source: str, module: str) -> list[str]:
    """Calls that only the command line may make (print, exit), and calls that nothing may make (eval)."""
    wrong: list[str] = []
    for node in ast.walk(ast.parse(source)):
        what = _forbidden(node)
        if what and (what in UNSAFE_CALLS or "pickle" in what or component(module) != "cli"):
            wrong.append(f"{module}:{node.lineno}: {what}")
    return wrong


def _forbidden(node: ast.AST) -> str:
    if isinstance(node, ast.Raise) and node.exc is not None and "SystemExit" in ast.unparse(node.exc):
        return "SystemExit"
    if not isinstance(node, ast.Call):
        return ""
    name = ast.unparse(node.func)
    if name in UNSAFE_CALLS | {"print", "exit", "quit", "sys.exit", "os._exit"}:
        return name
    if name.startswith(("sys.stdout.", "sys.stderr.")) or name.endswith(("read_pickle", "to_pickle")):
        return name
    pickled = any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords)
    return "allow_pickle" if pickled else ""


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def long_functions(source: str, module: str, limit: int) -> dict[str, int]:
    """``module:qualified.name`` -> body lines, of every function above ``limit``."""
    return {
        f"{module}:{name}": body_lines(node)
        for name, node in _functions(ast.parse(source), "")
        if body_lines(node) > limit
    }


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{child.name}" if prefix else child.name
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, child
        yield from _functions(child, name)


# Written in pieces, so that this file passes its own check.
_ROOTS: Final = "|".join(("wo" + "rk", "ho" + "me", "ro" + "ot", "t" + "mp"))
_HOSTS: Final = "|".join(
    ("py" + r"pi\.org", "python" + r"hosted\.org", "debian" + r"\.org", "np" + r"mjs\.org")
)
_OPTIONS: Final = "|".join(("--(?:extra-)?index" + "-url", "--find" + "-links"))
_MACHINE: Final = re.compile(rf"(?<![\w.~-])/(?:{_ROOTS})(?![\w-])|{_HOSTS}|{_OPTIONS}")


def machine_paths(text: str, file: str) -> list[str]:
    """Paths of somebody's machine, hosts of package registries and index options in ``text``."""
    return [
        f"{file}:{number}: {match.group()}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in _MACHINE.finditer(line)
    ]
