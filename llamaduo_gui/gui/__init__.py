"""The desktop window (PySide6 is imported only under this package)."""
