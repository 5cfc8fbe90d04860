"""The report: one HTML file that opens without a network."""

from __future__ import annotations

from evaluate.report.files import write
from evaluate.report.page import write_report

__all__ = ["write", "write_report"]
