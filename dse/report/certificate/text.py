"""A certificate in words: for a terminal of 80 columns, and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

from dse.report import text
from dse.report.certificate.data import Certificate, LevelPeak, LevelSummary, PeakRow
from dse.report.certificate.peak import remedies_text
from dse.units import human_bytes

WIDTH: Final = 80

HEADER: Final = ("level", "live", "bound", "arena", "gap", "room", "least")
LEGEND: Final = (
    "live: most bytes alive at once; bound: no arena can be smaller; gap: arena above bound; room: what the "
    "level has for it; least: whether it is proven that no arena is smaller."
)

NOT_EXECUTED: Final = "not executed: whether these lifespans carry a step was not tried"


def certificate_text(certificate: Certificate, files: Mapping[str, str] | None = None) -> str:
    """Write a certificate for a terminal; ``files`` maps the files that were written to what they are."""
    sections = [
        f"memory map of {certificate.network} on {certificate.board}",
        text.wrapped(f"plan: {', '.join(certificate.plan_words)}", WIDTH),
        text.table(HEADER, _level_rows(certificate)) + "\n" + text.wrapped(LEGEND, WIDTH),
        "\n".join(text.wrapped(line, WIDTH) for line in _findings(certificate)),
        *(_peak_section(certificate, peak) for peak in _ram_peaks(certificate)),
        _files_section(files or {}),
    ]
    return "\n\n".join(section for section in sections if section)


def certificate_markdown(certificate: Certificate, files: Mapping[str, str], figure: str = "") -> str:
    """Write a certificate as a page of its folder, with its figure."""
    findings = "\n".join(f"- {line}" for line in _findings(certificate))
    sections = [
        f"# Memory map of {certificate.network} on {certificate.board}",
        f"Plan: {', '.join(certificate.plan_words)}.",
        findings,
        text.markdown(HEADER, _level_rows(certificate)) + f"\n\n{LEGEND}",
        f"![address against operations]({figure})" if figure else "",
        *(_peak_page(certificate, peak) for peak in certificate.peaks),
        "## Files",
        text.markdown(("file", "what it is"), files.items()),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _level_rows(certificate: Certificate) -> list[tuple[str, ...]]:
    return [
        (
            summary.level, human_bytes(summary.live_bytes), human_bytes(summary.bound_bytes),
            human_bytes(summary.arena_bytes), summary.gap_text, human_bytes(summary.capacity_bytes),
            "proven" if summary.proven else "not proven",
        )
        for summary in certificate.levels
    ]  # fmt: skip


def _findings(certificate: Certificate) -> list[str]:
    """Say what holds and what does not, each in a line."""
    alive, promised = certificate.ram_peak_bytes, certificate.promised_bytes
    same = "as promised" if alive == promised else f"promised: {_exact(promised)}"
    lines = [f"RAM peak: {_exact(alive)} alive at once in all RAM, {same}"]
    lines += [_short(summary) for summary in certificate.levels if not summary.fits]
    lines.append("offsets: " + "; ".join(f"{each.level} {each.method}" for each in certificate.levels))
    if certificate.faults is None:
        lines.append("not checked: nothing is certified")
    elif certificate.faults:
        count = text.plural(len(certificate.faults), "fault")
        lines += [f"the check found {count}:", *certificate.faults]
    else:
        lines.append(
            "checked by code that shares nothing with the allocators: no two live buffers overlap; "
            "bounds, alignment and lifespans hold"
        )
    return [*lines, certificate.executed or NOT_EXECUTED]


def _short(summary: LevelSummary) -> str:
    missing = summary.arena_bytes - summary.capacity_bytes
    return f"{summary.level} is too small: {_exact(missing)} are missing"


def _exact(size: int) -> str:
    """Write a size for people, and to the byte where that rounds."""
    return human_bytes(size) if human_bytes(size) == f"{size} B" else f"{human_bytes(size)} ({size:,} B)"


def _ram_peaks(certificate: Certificate) -> list[LevelPeak]:
    return [peak for peak in certificate.peaks if certificate.summary(peak.level).volatile]


def _title(certificate: Certificate, peak: LevelPeak) -> str:
    during = certificate.map.schedule.operations[peak.operation].name
    listed = f", the {len(peak.rows)} largest" if len(peak.rows) < peak.alive else ""
    return (
        f"{peak.level} is fullest during {during}: {human_bytes(peak.live_bytes)} in "
        f"{text.plural(peak.alive, 'buffer')}{listed}"
    )


def _peak_section(certificate: Certificate, peak: LevelPeak) -> str:
    lines = [text.wrapped(_title(certificate, peak), WIDTH)]
    sizes = [human_bytes(row.placed.buffer.size_bytes) for row in peak.rows]
    room, before = max(map(len, sizes)), ""
    for row, size in zip(peak.rows, sizes, strict=True):
        buffer, lower = row.placed.buffer, remedies_text(row)
        start = f"{row.rank:2}  {size:>{room}}  {100 * row.share:4.1f} %  "
        lines += [
            _hanging(start, ", ".join(dict.fromkeys((buffer.name, buffer.role.value)))),
            _hanging("    alive: ", buffer.reason),
            _hanging("    lower: ", "as the one above" if lower == before else lower),
        ]
        before = lower
    return "\n".join(lines)


def _hanging(start: str, words: str) -> str:
    """Write ``words`` behind ``start``, with every further line below their first."""
    return textwrap.fill(words, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def _files_section(files: Mapping[str, str]) -> str:
    room = max(map(len, files), default=0) + 2
    return "\n".join(_hanging(f"{name:<{room}}", what) for name, what in files.items())


def _peak_page(certificate: Certificate, peak: LevelPeak) -> str:
    header = ("", "buffer", "role", "bytes", "share", "alive because", "lowered by")
    return f"## {_title(certificate, peak)}\n\n{text.markdown(header, _page_rows(peak.rows))}"


def _page_rows(rows: Sequence[PeakRow]) -> list[tuple[str, ...]]:
    return [
        (
            str(row.rank), row.placed.buffer.name, row.placed.buffer.role.value,
            human_bytes(row.placed.buffer.size_bytes), f"{100 * row.share:.1f} %",
            row.placed.buffer.reason, remedies_text(row),
        )
        for row in rows
    ]  # fmt: skip
