"""Adapters to service LLM APIs and the request engine that paces them."""
