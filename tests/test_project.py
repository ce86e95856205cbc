"""The frame of the project: versions agree, the environment is pinned, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "hwprofiles").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    metadata: dict[str, Any] = tomllib.loads(read("pyproject.toml"))["project"]
    return metadata


def requirements() -> list[Requirement]:
    extras = project()["optional-dependencies"].values()
    return [
        Requirement(line)
        for line in [*project()["dependencies"], *(line for extra in extras for line in extra)]
    ]


def pins() -> dict[str, str]:
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.+!]*", line) for line in lines)
    return {canonical(name): version for name, version in (line.split("==") for line in lines)}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_versions_agree() -> None:
    version = project()["version"]
    assert re.search(rf"^version: {re.escape(version)}$", read("CITATION.cff"), re.M)
    assert f"## [{version}]" in read("CHANGELOG.md")


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    version = pins()[canonical(requirement.name)]
    assert requirement.specifier.contains(version, prereleases=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        goal = (page.parent / target).resolve() if target else page
        assert goal.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(goal), f"{page.name} links to {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_decision_is_listed() -> None:
    listed = read("docs/README.md")
    assert all(f"adr/{page.name}" in listed for page in (ROOT / "docs" / "adr").glob("*.md"))


def test_the_two_set_up_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    assert (
        set(re.findall(r"(?:^|`)make ([a-z-]+)", read("README.md") + read("CONTRIBUTING.md"), re.M))
        <= targets
    )
    assert {"explore", "test", "check", "bench", "notebooks"} <= targets


def test_the_licence_is_the_one_declared() -> None:
    assert project()["license"] == "Apache-2.0"
    assert re.match(r"\s*Apache License\s+Version 2\.0, January 2004", read("LICENSE"))


@pytest.fixture(scope="module")
def minutes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("minutes", ROOT / ".ci" / "minutes.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_minutes_of_a_run(minutes: ModuleType) -> None:
    log = minutes.read_log("set-up\t0.0\t90.0\tok\nlint\t90.0\t93.0\tok\ntest\t100.0\t160.0\tfailed\n")
    cells = [cell.strip() for cell in minutes.row(log).strip("|").split("|")]
    assert cells[0] == "1970-01-01 00:00"
    assert cells[2:] == ["1.50", "0.05", "-", "-", "1.00", "2.55", "failed: test"]


def test_rows_of_minutes_are_appended_to_one_table(minutes: ModuleType) -> None:
    page = minutes.with_row("# Title\n\ntext\n", "| first |")
    page = minutes.with_row(page + "\nmore text\n", "| second |")
    assert page.count(minutes.HEADER) == 1
    assert page.splitlines()[-5:] == [minutes.RULE, "| first |", "| second |", "", "more text"]
