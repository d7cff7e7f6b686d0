"""Judges, reference metrics, statistics, verdicts and reports."""
