"""The import table of the design, one home per third-party package, and the limits on size, as tests."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from sys import stdlib_module_names

import pytest
from packaging.requirements import Requirement

from tests import architecture

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = sorted([*(ROOT / "dse").rglob("*.py"), *(ROOT / "hwprofiles").rglob("*.py")])
DSE = [path for path in PRODUCT if path.is_relative_to(ROOT / "dse")]
PYTHON = sorted([*PRODUCT, *(ROOT / "tests").rglob("*.py"), *(ROOT / ".ci").rglob("*.py")])

IMPORT_NAMES = {"scikit-learn": "sklearn", "pillow": "PIL"}
"""Packages that are imported under another name than they are installed by."""

LINES_PER_FILE = 400
LINES_PER_BODY = 45
LONGER_BODIES: dict[str, str] = {}
"""``module:qualified.name`` -> why this body may be longer. An entry that is no longer needed fails too."""

TEST_FOLDERS_OF_THEIR_OWN = {"properties", "published", "contracts", "golden", "data", "notebooks"}
UNTESTED_COMPONENTS = {
    "reference": "data; the modules that read it are tested",
    "explorations": "data; the space that comes with the package is read by the tests of search",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# --- the tree obeys ---


@each(DSE)
def test_imports_follow_the_table(path: Path) -> None:
    package = path.name == "__init__.py"
    assert not architecture.import_violations(read(path), module_name(path), is_package=package)


@each(DSE)
def test_third_party_packages_are_declared(path: Path) -> None:
    metadata = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    extras = metadata["optional-dependencies"]
    needed = ("train", "arena", "onnx", "tflite")
    declared = [*metadata["dependencies"], *(line for extra in needed for line in extras[extra])]
    packages = {Requirement(line).name for line in declared}
    known = {IMPORT_NAMES.get(name, name) for name in packages} | stdlib_module_names | {"dse", "hwprofiles"}
    importers = {"dse.workload.onnx": {"onnx"}, "dse.workload.tflite": {"tflite"}}
    name = module_name(path)
    found = {found.name.split(".")[0] for found in architecture.imports(read(path), name)} - {"?"}
    assert not found - known - importers.get(name, set())


@each(DSE)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    assert not architecture.call_violations(read(path), module_name(path))


@each([path for path in PRODUCT if not path.is_relative_to(ROOT / "dse")])
def test_profiles_are_data(path: Path) -> None:
    assert not architecture.imports(read(path), module_name(path)), "hwprofiles holds data, not code"


@each(PYTHON)
def test_file_length(path: Path) -> None:
    assert len(read(path).splitlines()) <= LINES_PER_FILE


def test_function_length() -> None:
    long: dict[str, int] = {}
    for path in PYTHON:
        long |= architecture.long_functions(read(path), module_name(path), LINES_PER_BODY)
    assert {name: lines for name, lines in long.items() if name not in LONGER_BODIES} == {}
    assert not set(LONGER_BODIES) - set(long), "no longer long: take it off the list"
    assert all(LONGER_BODIES.values()), "each exception states its reason"


@each(PYTHON)
def test_names_say_what_is_inside(path: Path) -> None:
    assert not architecture.VAGUE_NAMES & {path.stem, path.parent.name}


def test_no_machine_paths_in_tracked_files() -> None:
    found: list[str] = []
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            found += architecture.machine_paths(data.decode("utf-8", "replace"), str(path.relative_to(ROOT)))
    assert not found


def tracked_files() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def components() -> set[str]:
    return {module_name(path).split(".")[1] for path in DSE if "." in module_name(path)}


@pytest.mark.parametrize("component", sorted(components() - set(UNTESTED_COMPONENTS)))
def test_tests_mirror_the_product(component: str) -> None:
    beside = list((ROOT / "tests").glob(f"test_{component}*.py"))
    below = list((ROOT / "tests" / component).rglob("test_*.py"))
    assert beside or below, f"neither tests/test_{component}.py nor tests/{component}/test_*.py"


def test_test_folders_mirror_the_product() -> None:
    tests = ROOT / "tests"
    folders = {path.relative_to(tests).parts[0] for path in tests.glob("*/**/test_*.py")}
    assert not folders - components() - TEST_FOLDERS_OF_THEIR_OWN


# --- the check bites ---

OFFENDING_IMPORTS = {
    "upwards": ("dse.workload.graph", "import dse.cost.model"),
    "sideways": ("dse.hardware", "from dse.workload.graph import Workload"),
    "component by name": ("dse.plan.step", "from dse import hardware"),
    "relative": ("dse.plan.step", "from ..hardware import load_board"),
    "relative to the package": ("dse.plan.step", "from .. import hardware"),
    "inside a function": ("dse.training.engine", "def f():\n    from dse.cost import model"),
    "inside a method": ("dse.errors", "class A:\n  def f(self):\n    if self:\n      import dse.api"),
    "for types only": ("dse.accuracy.base", "if TYPE_CHECKING:\n    from dse.cost.model import Costs"),
    "by string": ("dse.execution", "import importlib\nimportlib.import_module('dse.cost.arena')"),
    "by a computed string": ("dse.execution", "import_module('dse.' + name)"),
    "the command line": ("dse.api", "from dse.cli import main"),
    "report below api": ("dse.reproduce.qlr_cl", "from dse.report import tables"),
    "the package from below": ("dse.search.exact", "from dse import estimate"),
    "no row in the table": ("dse.magic", "x = 1"),
    "typer away from home": ("dse.api", "import typer"),
    "rich away from home": ("dse.report.tables", "from rich.table import Table"),
    "optuna away from home": ("dse.search.exact", "def f():\n    import optuna.samplers"),
    "matplotlib away from home": ("dse.report.document", "import matplotlib.pyplot as plt"),
    "torch away from home": ("dse.workload.load", "import torch"),
    "a home is not a prefix": ("dse.search.study_tools", "import optuna"),
    "pandas on the top level": ("dse.report.tables", "import pandas as pd"),
    "pandas in a class body": ("dse.report.tables", "class A:\n    import pandas"),
    "pickle": ("dse.search.exact", "def f():\n    import pickle"),
}

HARMLESS_IMPORTS = {
    "downwards": ("dse.cost.model", "from dse.plan.step import TrainingStep"),
    "within a component": ("dse.cost.model", "from dse.cost import memory\nfrom . import latency"),
    "the base": ("dse.workload.load", "from dse.errors import UserError\nfrom dse import units"),
    "the base from the base": ("dse.units", "from dse.errors import UserError"),
    "lazily": ("dse.search.result", "def to_frame():\n    import pandas as pd"),
    "optuna at home": ("dse.search.study", "import optuna"),
    "torch at home": ("dse.training.engine", "import torch.nn as nn"),
    "the version": ("dse.report.document", "from dse import __version__"),
    "the command line sees all": ("dse.cli", "import dse\nimport typer\nfrom dse.report import document"),
    "the package offers the api": ("dse", "def __getattr__(name):\n    from dse import api"),
}


@pytest.mark.parametrize(("module", "source"), OFFENDING_IMPORTS.values(), ids=OFFENDING_IMPORTS)
def test_offending_import_is_found(module: str, source: str) -> None:
    assert len(architecture.import_violations(source, module)) == 1


@pytest.mark.parametrize(("module", "source"), HARMLESS_IMPORTS.values(), ids=HARMLESS_IMPORTS)
def test_harmless_import_passes(module: str, source: str) -> None:
    assert not architecture.import_violations(source, module, is_package=module == "dse")


@pytest.mark.parametrize(
    "source",
    [
        "print(1)",
        "def f():\n    sys.exit(1)",
        "raise SystemExit",
        "raise SystemExit(2)",
        "sys.stdout.write('x')",
        "eval('1')",
        "exec(text)",
        "compile(text, 'f', 'exec')",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
    ],
)
def test_offending_call_is_found(source: str) -> None:
    assert len(architecture.call_violations(source, "dse.cost.model")) == 1


def test_the_command_line_may_print_but_not_evaluate() -> None:
    assert not architecture.call_violations("print(1)\nsys.exit(2)", "dse.cli")
    assert architecture.call_violations("eval('1')", "dse.cli")


def test_methods_that_share_a_name_with_a_builtin_pass() -> None:
    source = "network.eval()\nre.compile('a')\nself.print(1)"
    assert not architecture.call_violations(source, "dse.training.engine")


def test_a_docstring_does_not_lengthen_a_body() -> None:
    statements = "\n".join(f"    a{i} = {i}" for i in range(4))
    source = f'class C:\n  def short(self):\n    """Say\n\n    much.\n    """\n{statements}\n'
    assert architecture.long_functions(source, "m", 4) == {}
    assert architecture.long_functions(source, "m", 3) == {"m:C.short": 4}


def test_machine_paths_are_found() -> None:
    leak = "/".join(("", "home", "somebody", "data.csv"))
    host = ".".join(("py" + "pi", "org"))
    assert architecture.machine_paths(f"a\nopen('{leak}')\nhttps://{host}/simple", "f") == [
        "f:2: /" + "home",
        "f:3: " + host,
    ]
    assert not architecture.machine_paths("dse/workload ../workload tests/home https://x.org/homepage", "f")
