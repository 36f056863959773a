"""Kinds of artifacts that others than their own stage look for."""

BUNDLE_KIND = "bundle"
REPORT_KIND = "report"
