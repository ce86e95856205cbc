"""The folder of a certificate: map, figure, header, offline plan and peak table, complete or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dse.errors import Problem, UserError
from dse.files import atomic_folder, require_new_folder
from dse.report.certificate.data import Certificate
from dse.report.certificate.header import header_text
from dse.report.certificate.map_info import map_info
from dse.report.certificate.memory_csv import ALL_LEVELS, csv_files
from dse.report.certificate.offline_plan import (
    BIN,
    JSON,
    metadata_bytes,
    offline_plan,
    offline_problems,
    plan_json,
)
from dse.report.certificate.peak import CSV, peak_csv
from dse.report.certificate.text import certificate_markdown

PAGE: Final = "certificate.md"
FIGURE: Final = "memory_map"
HEADER: Final = "memory_map.h"

_WHAT: Final = {
    ALL_LEVELS: "every buffer: lifespan, size, offset, level, reason",
    CSV: "the largest buffers at each level's peak, and what would lower them",
    HEADER: "offsets and sizes in C, with static assertions",
    f"{FIGURE}.png": "address against operations",
    f"{FIGURE}.svg": "the same, to be scaled",
    BIN: "offline-planned tensor allocation for TensorFlow Lite Micro",
    JSON: "the same, to be read: which tensor lies where",
    PAGE: "this certificate",
}


def write_certificate(certificate: Certificate, folder: str | Path) -> dict[str, str]:
    """Write every file of a certificate into ``folder``, and return file name -> what it is.

    The folder appears complete or not at all; one that is there stays until the new one is complete. Files
    that an older certificate left there and this one has not are removed; other files stay. Raises what
    ``certificate_folder`` raises.
    """
    folder = certificate_folder(folder)
    texts = csv_files(certificate.map) | {
        CSV: peak_csv(certificate.peaks, certificate.map.schedule),
        HEADER: header_text(certificate),
    }
    blobs, left_out = _offline_files(certificate)
    figures = (f"{FIGURE}.png", f"{FIGURE}.svg")
    names = (*texts, *figures, *blobs, PAGE)
    files = {name: _WHAT.get(name, "the buffers of one level alone") for name in names}
    texts[PAGE] = certificate_markdown(certificate, files | left_out, figures[0])
    with atomic_folder(folder) as partial:
        for name, content in texts.items():
            (partial / name).write_text(content, encoding="utf-8", newline="\n")
        for name, blob in blobs.items():
            (partial / name).write_bytes(blob)
        _draw(certificate, partial)
    _remove_older(folder, files)
    return files | left_out


def certificate_folder(to: str | Path) -> Path:
    """Return the folder that a certificate can be written to, links followed.

    Raises UserError where it cannot: for a file, a place without permission, a folder that holds a folder
    with the name of one of the files, and for the working folder or one above it, as it is replaced whole.
    """
    if not str(to).strip():
        raise UserError(Problem("option", "folder", repr(str(to)), "the path of a folder of its own"))
    folder = _resolved(to)
    if Path.cwd().is_relative_to(folder):
        found = "is the working folder, or holds it"
        raise UserError(Problem(str(to), "", found, "a folder of its own, such as certificate"))
    require_new_folder(folder)
    taken = sorted(name for name in _known(folder) if (folder / name).is_dir())
    if taken:
        found = f"a folder is called {', '.join(taken)}"
        raise UserError(Problem(str(to), "", found, "files, or nothing, by these names"))
    return folder


def _resolved(to: str | Path) -> Path:
    try:
        return Path(to).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # links in a circle, a name that cannot be one
        found = f"cannot be written: {getattr(error, 'strerror', None) or error}"
        raise UserError(Problem(repr(str(to)), "", found, "a place that can be written")) from None


def _known(folder: Path) -> set[str]:
    """Names of all files that a certificate may have, or an older one left in ``folder``."""
    return {*_WHAT, *(path.name for path in folder.glob("memory_map-*.csv"))}


def _offline_files(certificate: Certificate) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the files for the interpreter; where there can be none, the reasons instead."""
    problems = list(offline_problems(certificate.map))
    if problems:
        why = "; ".join(f"{problem.found}; {problem.allowed}".strip("; ") for problem in problems)
        return {}, {BIN: f"not written: {why}"}
    plan = offline_plan(certificate.map)
    return {BIN: metadata_bytes(plan.integers), JSON: plan_json(plan).encode()}, {}


def _draw(certificate: Certificate, folder: Path) -> None:
    from dse.report.figures import memory_map_figure, save_all

    save_all(memory_map_figure(map_info(certificate)), folder / FIGURE)


def _remove_older(folder: Path, files: dict[str, str]) -> None:
    """Remove what an older certificate wrote there and this one did not."""
    for name in _known(folder) - set(files):
        (folder / name).unlink(missing_ok=True)
