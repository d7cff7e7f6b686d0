"""Reading, splitting, deduplicating and decontaminating conversation records."""
