"""Dialogs that any page can open."""
