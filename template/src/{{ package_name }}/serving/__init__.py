"""The HTTP service: `python -m <package>.serving`."""
