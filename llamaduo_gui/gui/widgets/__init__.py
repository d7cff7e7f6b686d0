"""Reusable components of the window; none of them knows the project database or a job."""
