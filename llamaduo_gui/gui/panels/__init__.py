"""Larger parts of pages: lists, and what a selected row shows."""
