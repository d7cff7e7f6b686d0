"""Sampling answers from the student, in batches and in chat."""
