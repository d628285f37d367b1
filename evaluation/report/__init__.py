"""Readers of an ``AuditResult``: the HTML report and the terminal tables."""

from evaluation.report.html import render_html, write_report
from evaluation.report.table import print_summary

__all__ = ["print_summary", "render_html", "write_report"]
