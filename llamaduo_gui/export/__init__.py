"""Writing, quantising and checking GGUF files."""
