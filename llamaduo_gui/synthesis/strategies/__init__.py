"""Ways to choose the seeds of a round: a module each, found by itself."""
