"""The LlamaDuo loop: plan, decide, resume."""
