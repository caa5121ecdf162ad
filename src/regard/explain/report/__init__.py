"""The report of an evaluation as one HTML page that opens from disk."""

from regard.explain.report.report_page import ReportFacts, report_html, save_report

__all__ = ["ReportFacts", "report_html", "save_report"]
