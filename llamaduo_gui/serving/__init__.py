"""The OpenAI-compatible endpoint: the local model, the service LLM, or one behind the other."""
