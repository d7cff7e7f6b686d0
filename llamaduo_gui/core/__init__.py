"""Vocabulary types, configuration, events, errors, paths and secrets shared by every layer."""
