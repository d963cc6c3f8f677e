"""The project's tests; they are not part of its wheel."""
