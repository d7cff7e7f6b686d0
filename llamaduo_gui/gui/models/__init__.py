"""Qt item models that read pages of rows from the store."""
