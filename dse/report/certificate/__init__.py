"""A memory map as a certificate: files for people, compilers and other tools, from plain data."""

from dse.report.certificate.data import Certificate, LevelPeak, LevelSummary, PeakRow, Remedy
from dse.report.certificate.folder import certificate_folder, write_certificate
from dse.report.certificate.header import header_text
from dse.report.certificate.memory_csv import csv_files
from dse.report.certificate.offline_plan import OfflinePlan, metadata_bytes, offline_plan, offline_problems
from dse.report.certificate.peak import Located, Reschedule, level_peaks, peak_csv
from dse.report.certificate.text import certificate_markdown, certificate_text

__all__ = [
    "Certificate",
    "LevelPeak",
    "LevelSummary",
    "Located",
    "OfflinePlan",
    "PeakRow",
    "Remedy",
    "Reschedule",
    "certificate_folder",
    "certificate_markdown",
    "certificate_text",
    "csv_files",
    "header_text",
    "level_peaks",
    "metadata_bytes",
    "offline_plan",
    "offline_problems",
    "peak_csv",
    "write_certificate",
]
