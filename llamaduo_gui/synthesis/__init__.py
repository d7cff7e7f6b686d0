"""Asking the teacher for more data like the coverage data."""
