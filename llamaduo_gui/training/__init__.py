"""Recipes, model families and the fine-tuning of the student."""
