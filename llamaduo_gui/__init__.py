"""LlamaDuo GUI: move a capability from a service LLM to a small local LLM, with proof."""

from __future__ import annotations

__version__ = "0.1.0"
