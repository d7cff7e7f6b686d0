"""Alembic environment of the project database."""
