"""The formats data is imported from: one file each, found by the registry."""
